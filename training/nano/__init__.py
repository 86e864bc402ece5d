"""
The recipe of the bundled checkpoint `nano`: `python -m training.nano codec|train|assemble|evaluate|listen|sheet`.

The codec is computed, and the language model is trained on pieces that a program composes. No recording is used.

    nouns, adjectives,        the vocabulary: some seven thousand words for some 150 concepts,
    verbs, words, phrases     their other forms, and phrases
    tokenizer, trie           the tokenizer file, whose patterns hold the vocabulary
    plan, styles              what a piece is to be, drawn at random, and the concepts that describe it
    pulse, keys               tempi and metre; keys, degrees and chord progressions
    composer, rhythms,        turn a plan into codes, four for each frame of 20 ms
    endings
    codes                     what each code means: a silent state, or a musical event
    timbres, synthesis        what each code sounds like: the synthesiser, with numpy
    codec, fidelity           the synthesiser as the weights of EnCodec's decoder, and how close it comes
    model, data, warmup,      text encoder and language model; training data;
    train                     the training
    assemble                  writes the folder of the checkpoint from the state of the training
    prompts, free_prompts     prompts for the evaluation
    audio_analysis,           what can be measured in sound, the classifiers for it,
    classifiers,              and what can be read in codes;
    code_analysis, evaluate   the table of results with confidence intervals
    measures, listening,      what listeners minded: envelopes, levels, brightness, sameness;
    players, general_midi     asked about checkpoints, about the composer, and about a soundfont
    recording                 the package's engine, for all of these
    sheet                     a picture of a spectrogram for each genre

NOTES.md says how the shipped weights were made and what was measured.
"""
