"""Audio as bytes and samples: WAV files, waveforms, loops, other formats, players."""
