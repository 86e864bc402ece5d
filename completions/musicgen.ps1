# Completes musicgen in PowerShell; made by `musicgen --show-completion powershell`.

Register-ArgumentCompleter -Native -CommandName musicgen -ScriptBlock {
    param($word, $ast, $cursor)

    # The commands that may follow a command, with their help.
    $commands = [System.Collections.Hashtable]::new([System.StringComparer]::Ordinal)
    $commands[''] = @('generate Make one or more takes and store each.', 'batch Make a take of each row of a file; resumable.', 'list List stored takes, newest first.', 'ls The same as `list`.', 'show Show a take, or list the takes of a variation set.', 'play Play takes one after the other; Ctrl-C stops.', 'export Copy stored takes to files.', 'tag Add tags to takes, or remove tags from them.', 'name Give a take a name.', 'rm Remove takes, or restore removed ones.', 'undo Restore removed takes, as `rm --undo` does.', 'import Import sound files, or the takes of another store.', 'gallery Make an HTML page with players for takes.', 'serve Serve a model over HTTP until stopped.', 'mcp Serve the commands as MCP tools over stdio.', 'doctor Check the installation; exit 1 if something is broken.', 'job Manage takes that are made in the background.', 'model Manage the models on this machine.', 'store Inspect and maintain the store.')
    $commands['job'] = @('list List the jobs of the last 7 days, newest first.', 'show Show everything that is known of a job.', 'poll Wait for jobs and print one JSON object.', 'wait Wait until jobs have ended, however long that takes, and print their takes.', 'cancel Cancel jobs; one that is running stops.')
    $commands['model'] = @('pull Download a model and prepare it.', 'list List the models on this machine, and the precisions that are prepared.', 'show Show a model''s licence, origin, sizes, files and precisions.', 'check Check that a model is complete and makes what it should; exit 1 if not.', 'rm Remove models from this machine.')
    $commands['store'] = @('path Print the path of the store.', 'stats Print how much is stored.', 'check Look for problems without changing anything; exit 1 if there are any.', 'repair Repair what can be repaired.', 'compact Rewrite the index without removed takes.', 'gc Delete audio that belongs to no take any more, and the leftovers of unfinished writes.')

    # The options of a command, with their help.
    $options = [System.Collections.Hashtable]::new([System.StringComparer]::Ordinal)
    $options[''] = @('--version Show the version and exit.', '--show-completion Print the completion script for bash, zsh, fish or powershell.', '-h Show help and exit.', '--help Show help and exit.')
    $options['generate'] = @('-d Length of the new sound in seconds. [10; 0.5-600 s]', '--duration Length of the new sound in seconds. [10; 0.5-600 s]', '--temperature Sampling temperature: higher is more random. [1; 0.01-2]', '--top-k Sample from the k most likely codes; 0: all. [250; 0-1000]', '--top-p Sample from the most likely codes up to this total probability; 1: all. [0.9; 0-1]', '-g How strongly to follow the prompt; 1: no guidance. [3; 1-15]', '--guidance-scale How strongly to follow the prompt; 1: no guidance. [3; 1-15]', '--sample Sample; otherwise always take the most likely code.', '--greedy Sample; otherwise always take the most likely code.', '--seed The same seed gives the same take; without one, a random one is recorded. [0-9007199254740991]', '--bars Length in bars of four beats, at --bpm or the tempo that the prompt names. [1-64]', '--bpm Tempo for --bars. [30-300 beats per minute]', '--continue Go on from this sound: a take''s id, or a file.', '--melody Follow the tune of this sound: a take''s id, or a file.', '--overlap Seconds of what came before that each window of 30 s begins with. [12; 1-25 s]', '-n Number of takes, with seeds counting up. [1; 1-64]', '--variations Number of takes, with seeds counting up. [1; 1-64]', '-t A tag (repeatable).', '--tag A tag (repeatable).', '--creator Creator name. [agent_musicgen]', '--parent The take that this one comes from.', '--variation-set The variation set to join.', '--from Use the prompt and the parameters of that take, except for those given here.', '--local Run the model in this process.', '--no-local Run the model in this process.', '--model A model''s name or folder. [auto]', '--engine What computes the model; torch can use GPUs. [native for int8 where it can, else onnx]', '--device Where it computes; native and onnx: cpu only. [auto]', '--precision Number format of the model. [int8; with torch bf16 on CUDA, else fp32]', '--url The service''s address; else MUSICGEN_URL. [http://127.0.0.1:2006]', '--timeout Deadline of each request in seconds. [600]', '--max-wait Seconds to wait for a busy service, in all. [120]', '-o Export as well: to a file, a folder, or - for standard output.', '--output Export as well: to a file, a folder, or - for standard output.', '--force Replace a file that exists.', '--detach Make takes in the background; print a job''s id for each at once.', '--play Play each take once it is stored; with --local while it is made, if fast enough.', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['batch'] = @('--input-format Format of the rows. [that of the file''s ending, else detected]', '--sweep Make each row with each value: guidance_scale=3,5,7, seed=1..4 (repeatable).', '--run Name of this run; a run with another name makes all takes again.', '--redo Make takes again even if they are stored.', '--skip-invalid Skip invalid rows.', '--jobs Requests at once. [one for each --url]', '--retry Retry a failed request up to N times. [1]', '--max-failures Begin no more takes after N failures.', '--dry-run Show what would be made, and change nothing.', '--failed Write the rows that failed to FILE, ready to run again.', '-d Length of the new sound in seconds. [10; 0.5-600 s]', '--duration Length of the new sound in seconds. [10; 0.5-600 s]', '--temperature Sampling temperature: higher is more random. [1; 0.01-2]', '--top-k Sample from the k most likely codes; 0: all. [250; 0-1000]', '--top-p Sample from the most likely codes up to this total probability; 1: all. [0.9; 0-1]', '-g How strongly to follow the prompt; 1: no guidance. [3; 1-15]', '--guidance-scale How strongly to follow the prompt; 1: no guidance. [3; 1-15]', '--sample Sample; otherwise always take the most likely code.', '--greedy Sample; otherwise always take the most likely code.', '--seed The same seed gives the same take; without one, a random one is recorded. [0-9007199254740991]', '--bars Length in bars of four beats, at --bpm or the tempo that the prompt names. [1-64]', '--bpm Tempo for --bars. [30-300 beats per minute]', '--continue Go on from this sound: a take''s id, or a file.', '--melody Follow the tune of this sound: a take''s id, or a file.', '--overlap Seconds of what came before that each window of 30 s begins with. [12; 1-25 s]', '-n Number of takes, with seeds counting up. [1; 1-64]', '--variations Number of takes, with seeds counting up. [1; 1-64]', '-t A tag (repeatable).', '--tag A tag (repeatable).', '--creator Creator name. [agent_musicgen]', '--parent The take that this one comes from.', '--variation-set The variation set to join.', '--from Use the prompt and the parameters of that take, except for those given here.', '--local Run the model in this process.', '--no-local Run the model in this process.', '--model A model''s name or folder. [auto]', '--engine What computes the model; torch can use GPUs. [native for int8 where it can, else onnx]', '--device Where it computes; native and onnx: cpu only. [auto]', '--precision Number format of the model. [int8; with torch bf16 on CUDA, else fp32]', '--url A service''s address (repeatable); else MUSICGEN_URL.', '--timeout Deadline of each request in seconds. [600]', '--max-wait Seconds to wait for a busy service, in all. [120]', '-o Export each take as well, to a folder; outputs of rows are below it.', '--output Export each take as well, to a folder; outputs of rows are below it.', '--loop Cut each exported file into a loop: of --bars, or of all whole bars that fit.', '--force Replace a file that exists.', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['list'] = @('-n Show at most N takes. [20]', '--all Show all takes.', '-t Only takes with this tag (repeatable: with all of them).', '--tag Only takes with this tag (repeatable: with all of them).', '--creator Only takes by this creator.', '--set Only takes of this variation set.', '--parent Only takes made from this take.', '--model Only takes made by this model.', '--search Only takes with this text in prompt or name; ignores case.', '--since Only takes since this day or age: 2026-11-22, 2d, 3h.', '--until Only takes up to this time; a day includes its end.', '--wave Draw each waveform, if stdout is a terminal.', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['ls'] = @('-n Show at most N takes. [20]', '--all Show all takes.', '-t Only takes with this tag (repeatable: with all of them).', '--tag Only takes with this tag (repeatable: with all of them).', '--creator Only takes by this creator.', '--set Only takes of this variation set.', '--parent Only takes made from this take.', '--model Only takes made by this model.', '--search Only takes with this text in prompt or name; ignores case.', '--since Only takes since this day or age: 2026-11-22, 2d, 3h.', '--until Only takes up to this time; a day includes its end.', '--wave Draw each waveform, if stdout is a terminal.', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['show'] = @('--path Print only the path of the stored WAV.', '--tree Show the takes that it was made from, and those made from it.', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['play'] = @('--loop Repeat until Ctrl-C, without gaps if the player can read raw samples.', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['export'] = @('-o Write to this file or folder, or to stdout if -. [current folder]', '--output Write to this file or folder, or to stdout if -. [current folder]', '--name Template of file names in a folder. [{prompt_slug}-{seed}-{id}]', '--format Format of the files; all but wav need the extra audio or ffmpeg. [by the suffix, else wav]', '--metadata Write the record into each file; without it a WAV is bit-exact.', '--no-metadata Write the record into each file; without it a WAV is bit-exact.', '--sidecar Write the record as JSON beside each file.', '--force Replace a file that exists.', '--loop Cut whole bars that repeat without a seam, or cross-fade a take without a beat.', '--bpm Tempo of the loop. [the prompt''s, or measured]', '--bars Length of the loop in bars of four beats. [all that fit]', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['tag'] = @('--add Add this tag (repeatable).', '--rm Remove this tag (repeatable).', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['name'] = @('--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['rm'] = @('--yes Remove; otherwise only list what would be removed.', '--undo Restore removed takes.', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['undo'] = @('--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['import'] = @('-t Tag every imported take (repeatable).', '--tag Tag every imported take (repeatable).', '--creator Creator of the imported takes. [as in their sidecars]', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['gallery'] = @('-o Make the page in this folder. [gallery]', '--output Make the page in this folder. [gallery]', '-n Show at most N takes. [all]', '-t Only takes with this tag (repeatable: with all of them).', '--tag Only takes with this tag (repeatable: with all of them).', '--creator Only takes by this creator.', '--set Only takes of this variation set.', '--parent Only takes made from this take.', '--model Only takes made by this model.', '--search Only takes with this text in prompt or name; ignores case.', '--since Only takes since this day or age: 2026-11-22, 2d, 3h.', '--until Only takes up to this time; a day includes its end.', '--embed Put the audio into the page itself, up to 50 MB.', '--open Show the page in the browser.', '--force Replace a page that is not a gallery.', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print only the path, and no notes.', '--quiet Print only the path, and no notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['serve'] = @('--host Address to listen on; other machines can reach it only with an API key.', '--port Port to listen on; 0: any free one.', '--model A model''s name or folder. [auto]', '--engine What computes the model; torch can use GPUs. [native for int8 where it can, else onnx]', '--device Where it computes; native and onnx: cpu only. [auto]', '--precision Number format of the model. [int8; with torch bf16 on CUDA, else fp32]', '--slots Clips that are made at once.', '--queue Requests that may wait; further ones are answered with 429.', '--api-key Key that clients must send. Other users can see it in the list of processes; MUSICGEN_API_KEY or --api-key-file keeps it to yourself.', '--api-key-file File with the keys of clients, one a line; each is one client.', '--allow-host Further host name that clients may use (repeatable); *: any.', '--max-duration The longest clip in seconds, up to 600.', '--log-prompts Write prompts to the log, too.', '-h Show help and exit.', '--help Show help and exit.')
    $options['mcp'] = @('--local Run the model in this process.', '--no-local Run the model in this process.', '--model A model''s name or folder. [auto]', '--engine What computes the model; torch can use GPUs. [native for int8 where it can, else onnx]', '--device Where it computes; native and onnx: cpu only. [auto]', '--precision Number format of the model. [int8; with torch bf16 on CUDA, else fp32]', '--url The service''s address; else MUSICGEN_URL. [http://127.0.0.1:2006]', '--timeout Deadline of each request in seconds. [600]', '--max-wait Seconds to wait for a busy service, in all. [120]', '--store The store''s folder; else MUSICGEN_STORE.', '-h Show help and exit.', '--help Show help and exit.')
    $options['doctor'] = @('--store The store''s folder; else MUSICGEN_STORE.', '--url The service''s address; else MUSICGEN_URL. [http://127.0.0.1:2006]', '--json Print JSON Lines; errors are JSON, too.', '-h Show help and exit.', '--help Show help and exit.')
    $options['job'] = @('-h Show help and exit.', '--help Show help and exit.')
    $options['job list'] = @('--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['job show'] = @('--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['job poll'] = @('--timeout-ms Wait at most this long. [10000; 0-30000 ms]', '--mode Wait until any of the jobs has ended, or all of them have.', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print only the ids of complete jobs.', '--quiet Print only the ids of complete jobs.', '-h Show help and exit.', '--help Show help and exit.')
    $options['job wait'] = @('--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['job cancel'] = @('--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-q Print ids alone, and no progress or notes.', '--quiet Print ids alone, and no progress or notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['model'] = @('-h Show help and exit.', '--help Show help and exit.')
    $options['model pull'] = @('--revision A branch, tag or commit of the repository. [main]', '--precision Number format of the model. [int8; with torch bf16 on CUDA, else fp32]', '--keep-weights Keep the weights, so that other precisions can be prepared later.', '--json Print JSON Lines; errors are JSON, too.', '-q Print names only, and no notes.', '--quiet Print names only, and no notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['model list'] = @('--json Print JSON Lines; errors are JSON, too.', '-q Print names only, and no notes.', '--quiet Print names only, and no notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['model show'] = @('--check Check every file first; exit 7 if one is damaged.', '--json Print JSON Lines; errors are JSON, too.', '-h Show help and exit.', '--help Show help and exit.')
    $options['model check'] = @('--json Print JSON Lines; errors are JSON, too.', '-h Show help and exit.', '--help Show help and exit.')
    $options['model rm'] = @('--yes Remove; otherwise only list what would be removed.', '--json Print JSON Lines; errors are JSON, too.', '-q Print names only, and no notes.', '--quiet Print names only, and no notes.', '-h Show help and exit.', '--help Show help and exit.')
    $options['store'] = @('-h Show help and exit.', '--help Show help and exit.')
    $options['store path'] = @('--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-h Show help and exit.', '--help Show help and exit.')
    $options['store stats'] = @('--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-h Show help and exit.', '--help Show help and exit.')
    $options['store check'] = @('--full Hash all audio again, too.', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-h Show help and exit.', '--help Show help and exit.')
    $options['store repair'] = @('--adopt Make takes from audio files that belong to no take.', '--dry-run Change nothing; only show what would be done.', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-h Show help and exit.', '--help Show help and exit.')
    $options['store compact'] = @('--forget Keep no copy of the old index, which still has the removed prompts.', '--dry-run Change nothing; only show what would be done.', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-h Show help and exit.', '--help Show help and exit.')
    $options['store gc'] = @('--yes Delete; otherwise only count what would be deleted.', '--dry-run Change nothing; only show what would be done.', '--store The store''s folder; else MUSICGEN_STORE.', '--json Print JSON Lines; errors are JSON, too.', '-h Show help and exit.', '--help Show help and exit.')

    # What completes the value of an option or argument: kinds of stored values, and fixed choices.
    $values = [System.Collections.Hashtable]::new([System.StringComparer]::Ordinal)
    $values[' --show-completion'] = @('', 'bash zsh fish powershell')
    $values['generate -d'] = @('', '')
    $values['generate --duration'] = @('', '')
    $values['generate --temperature'] = @('', '')
    $values['generate --top-k'] = @('', '')
    $values['generate --top-p'] = @('', '')
    $values['generate -g'] = @('', '')
    $values['generate --guidance-scale'] = @('', '')
    $values['generate --seed'] = @('', '')
    $values['generate --bars'] = @('', '')
    $values['generate --bpm'] = @('', '')
    $values['generate --continue'] = @('takes', '')
    $values['generate --melody'] = @('takes', '')
    $values['generate --overlap'] = @('', '')
    $values['generate -n'] = @('', '')
    $values['generate --variations'] = @('', '')
    $values['generate -t'] = @('tags', '')
    $values['generate --tag'] = @('tags', '')
    $values['generate --creator'] = @('creators', '')
    $values['generate --parent'] = @('takes', '')
    $values['generate --variation-set'] = @('sets', '')
    $values['generate --from'] = @('takes', '')
    $values['generate --model'] = @('models', '')
    $values['generate --engine'] = @('', 'onnx native torch')
    $values['generate --device'] = @('', 'auto cpu cuda mps')
    $values['generate --precision'] = @('', 'int8 fp32 bf16')
    $values['generate --url'] = @('', '')
    $values['generate --timeout'] = @('', '')
    $values['generate --max-wait'] = @('', '')
    $values['generate -o'] = @('', '')
    $values['generate --output'] = @('', '')
    $values['generate --store'] = @('', '')
    $values['generate @*'] = @('', '')
    $values['batch --input-format'] = @('', 'jsonl csv text')
    $values['batch --sweep'] = @('', '')
    $values['batch --run'] = @('', '')
    $values['batch --jobs'] = @('', '')
    $values['batch --retry'] = @('', '')
    $values['batch --max-failures'] = @('', '')
    $values['batch --failed'] = @('', '')
    $values['batch -d'] = @('', '')
    $values['batch --duration'] = @('', '')
    $values['batch --temperature'] = @('', '')
    $values['batch --top-k'] = @('', '')
    $values['batch --top-p'] = @('', '')
    $values['batch -g'] = @('', '')
    $values['batch --guidance-scale'] = @('', '')
    $values['batch --seed'] = @('', '')
    $values['batch --bars'] = @('', '')
    $values['batch --bpm'] = @('', '')
    $values['batch --continue'] = @('takes', '')
    $values['batch --melody'] = @('takes', '')
    $values['batch --overlap'] = @('', '')
    $values['batch -n'] = @('', '')
    $values['batch --variations'] = @('', '')
    $values['batch -t'] = @('tags', '')
    $values['batch --tag'] = @('tags', '')
    $values['batch --creator'] = @('creators', '')
    $values['batch --parent'] = @('takes', '')
    $values['batch --variation-set'] = @('sets', '')
    $values['batch --from'] = @('takes', '')
    $values['batch --model'] = @('models', '')
    $values['batch --engine'] = @('', 'onnx native torch')
    $values['batch --device'] = @('', 'auto cpu cuda mps')
    $values['batch --precision'] = @('', 'int8 fp32 bf16')
    $values['batch --url'] = @('', '')
    $values['batch --timeout'] = @('', '')
    $values['batch --max-wait'] = @('', '')
    $values['batch -o'] = @('', '')
    $values['batch --output'] = @('', '')
    $values['batch --store'] = @('', '')
    $values['batch @0'] = @('', '')
    $values['list -n'] = @('', '')
    $values['list -t'] = @('tags', '')
    $values['list --tag'] = @('tags', '')
    $values['list --creator'] = @('creators', '')
    $values['list --set'] = @('sets', '')
    $values['list --parent'] = @('takes', '')
    $values['list --model'] = @('makers', '')
    $values['list --search'] = @('', '')
    $values['list --since'] = @('', '')
    $values['list --until'] = @('', '')
    $values['list --store'] = @('', '')
    $values['ls -n'] = @('', '')
    $values['ls -t'] = @('tags', '')
    $values['ls --tag'] = @('tags', '')
    $values['ls --creator'] = @('creators', '')
    $values['ls --set'] = @('sets', '')
    $values['ls --parent'] = @('takes', '')
    $values['ls --model'] = @('makers', '')
    $values['ls --search'] = @('', '')
    $values['ls --since'] = @('', '')
    $values['ls --until'] = @('', '')
    $values['ls --store'] = @('', '')
    $values['show --store'] = @('', '')
    $values['show @0'] = @('takes,sets', '')
    $values['play --store'] = @('', '')
    $values['play @*'] = @('takes,sets', '')
    $values['export -o'] = @('', '')
    $values['export --output'] = @('', '')
    $values['export --name'] = @('', '')
    $values['export --format'] = @('', 'wav flac ogg mp3')
    $values['export --bpm'] = @('', '')
    $values['export --bars'] = @('', '')
    $values['export --store'] = @('', '')
    $values['export @*'] = @('takes,sets', '')
    $values['tag --add'] = @('tags', '')
    $values['tag --rm'] = @('tags', '')
    $values['tag --store'] = @('', '')
    $values['tag @*'] = @('takes,sets', '')
    $values['name --store'] = @('', '')
    $values['name @0'] = @('takes', '')
    $values['name @*'] = @('', '')
    $values['rm --store'] = @('', '')
    $values['rm @*'] = @('removable,sets', '')
    $values['undo --store'] = @('', '')
    $values['undo @*'] = @('removed', '')
    $values['import -t'] = @('tags', '')
    $values['import --tag'] = @('tags', '')
    $values['import --creator'] = @('creators', '')
    $values['import --store'] = @('', '')
    $values['import @*'] = @('', '')
    $values['gallery -o'] = @('', '')
    $values['gallery --output'] = @('', '')
    $values['gallery -n'] = @('', '')
    $values['gallery -t'] = @('tags', '')
    $values['gallery --tag'] = @('tags', '')
    $values['gallery --creator'] = @('creators', '')
    $values['gallery --set'] = @('sets', '')
    $values['gallery --parent'] = @('takes', '')
    $values['gallery --model'] = @('makers', '')
    $values['gallery --search'] = @('', '')
    $values['gallery --since'] = @('', '')
    $values['gallery --until'] = @('', '')
    $values['gallery --store'] = @('', '')
    $values['serve --host'] = @('', '')
    $values['serve --port'] = @('', '')
    $values['serve --model'] = @('models', '')
    $values['serve --engine'] = @('', 'onnx native torch')
    $values['serve --device'] = @('', 'auto cpu cuda mps')
    $values['serve --precision'] = @('', 'int8 fp32 bf16')
    $values['serve --slots'] = @('', '')
    $values['serve --queue'] = @('', '')
    $values['serve --api-key'] = @('', '')
    $values['serve --api-key-file'] = @('', '')
    $values['serve --allow-host'] = @('', '')
    $values['serve --max-duration'] = @('', '')
    $values['mcp --model'] = @('models', '')
    $values['mcp --engine'] = @('', 'onnx native torch')
    $values['mcp --device'] = @('', 'auto cpu cuda mps')
    $values['mcp --precision'] = @('', 'int8 fp32 bf16')
    $values['mcp --url'] = @('', '')
    $values['mcp --timeout'] = @('', '')
    $values['mcp --max-wait'] = @('', '')
    $values['mcp --store'] = @('', '')
    $values['doctor --store'] = @('', '')
    $values['doctor --url'] = @('', '')
    $values['job list --store'] = @('', '')
    $values['job show --store'] = @('', '')
    $values['job show @0'] = @('jobs', '')
    $values['job poll --timeout-ms'] = @('', '')
    $values['job poll --mode'] = @('', 'any all')
    $values['job poll --store'] = @('', '')
    $values['job poll @*'] = @('jobs', '')
    $values['job wait --store'] = @('', '')
    $values['job wait @*'] = @('jobs', '')
    $values['job cancel --store'] = @('', '')
    $values['job cancel @*'] = @('jobs', '')
    $values['model pull --revision'] = @('', '')
    $values['model pull --precision'] = @('', 'int8 fp32 bf16')
    $values['model pull @0'] = @('published', '')
    $values['model show @0'] = @('here', '')
    $values['model check @0'] = @('here', '')
    $values['model rm @*'] = @('pulled', '')
    $values['store path --store'] = @('', '')
    $values['store stats --store'] = @('', '')
    $values['store check --store'] = @('', '')
    $values['store repair --store'] = @('', '')
    $values['store compact --store'] = @('', '')
    $values['store gc --store'] = @('', '')

    $string = [System.Management.Automation.Language.StringConstantExpressionAst]
    $texts = @($ast.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursor } | ForEach-Object {
        if ($_ -is $string) { $_.Value } else { $_.Extent.Text }
    })
    $words = @($texts | Select-Object -Skip 1)
    $typed = $word.TrimStart("'", '"')

    $command = ''
    $option = ''
    $onlyArguments = $false
    $argument = 0
    foreach ($each in $words) {
        if ($option) {
            $option = ''
        } elseif (-not $onlyArguments -and $each -eq '--') {
            $onlyArguments = $true
        } elseif (-not $onlyArguments -and $each -like '-?*') {
            if ($values.ContainsKey("$command $each")) { $option = $each }
        } elseif ($options.ContainsKey("$command $each".Trim())) {
            $command = "$command $each".Trim()
        } else {
            $argument++
        }
    }

    $prefix = ''
    $value = $null
    $offered = @()
    if ($option) {
        $value = $values["$command $option"]
    } elseif (-not $onlyArguments -and $typed -match '^(--[a-z-]+)=') {
        $prefix = $Matches[0]
        $value = $values["$command $($Matches[1])"]
        $typed = $typed.Substring($prefix.Length).TrimStart("'", '"')
    } elseif (-not $onlyArguments -and $typed.StartsWith('-')) {
        $offered = $options[$command]
    } elseif ($commands.ContainsKey($command)) {
        $offered = $commands[$command]
    } else {
        $value = $values["$command @$argument"]
        if (-not $value) { $value = $values["$command @*"] }
        if (-not $value -and -not $onlyArguments) { $offered = $options[$command] }
    }

    $stored = @()
    if ($value -and $value[0]) {
        $program = if ($texts[0] -match '[\\/]') { $texts[0] } else { 'musicgen' }
        # Before 7.3, PowerShell leaves out an empty argument.
        $last = if ($typed -or $PSVersionTable.PSVersion -ge [version]'7.3') { $typed } else { '""' }
        $encoding = [Console]::OutputEncoding
        try {
            [Console]::OutputEncoding = [System.Text.Encoding]::UTF8
            $env:_MUSICGEN_COMPLETE = $value[0]
            $stored = @(& $program @words $last 2>$null)
        } catch {
            $stored = @()
        } finally {
            Remove-Item Env:_MUSICGEN_COMPLETE
            [Console]::OutputEncoding = $encoding
        }
    }
    if ($value -and $value[1]) { $offered = -split $value[1] }

    $pairs = @($offered | ForEach-Object { , ($_ -split ' ', 2) })
    $pairs += @($stored | ForEach-Object { , ($_ -split "`t", 2) })
    foreach ($pair in $pairs) {
        $text = $pair[0]
        if (-not $text -or -not $text.StartsWith($typed, [System.StringComparison]::Ordinal)) { continue }
        $hint = if ($pair.Count -gt 1 -and $pair[1]) { $pair[1] } else { $text }
        $quoted = $text
        if ($text -notmatch '^[A-Za-z0-9_-]+$') {
            $quoted = "'" + ($text -replace "(['\u2018-\u201b])", '$1$1') + "'"  # typographic quotes end a string, too
        }
        [System.Management.Automation.CompletionResult]::new("$prefix$quoted", $text, 'ParameterValue', $hint)
    }
}
