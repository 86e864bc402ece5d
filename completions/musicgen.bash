# Completes musicgen in bash; made by `musicgen --show-completion bash`.

# Succeed for a known command; set the commands and options that may follow it.
_musicgen_knows() {
  case $1 in
    '')
      commands='generate batch list ls show play export tag name rm undo import gallery serve mcp doctor job model store' options='--version --show-completion -h --help'
      ;;
    generate)
      commands='' options='-d --duration --temperature --top-k --top-p -g --guidance-scale --sample --greedy --seed --bars --bpm --continue --melody --overlap -n --variations -t --tag --creator --parent --variation-set --from --local --no-local --model --engine --device --precision --url --timeout --max-wait -o --output --force --detach --play --store --json -q --quiet -h --help'
      ;;
    batch)
      commands='' options='--input-format --sweep --run --redo --skip-invalid --jobs --retry --max-failures --dry-run --failed -d --duration --temperature --top-k --top-p -g --guidance-scale --sample --greedy --seed --bars --bpm --continue --melody --overlap -n --variations -t --tag --creator --parent --variation-set --from --local --no-local --model --engine --device --precision --url --timeout --max-wait -o --output --loop --force --store --json -q --quiet -h --help'
      ;;
    list | ls)
      commands='' options='-n --all -t --tag --creator --set --parent --model --search --since --until --wave --store --json -q --quiet -h --help'
      ;;
    show)
      commands='' options='--path --tree --store --json -q --quiet -h --help'
      ;;
    play)
      commands='' options='--loop --store --json -q --quiet -h --help'
      ;;
    export)
      commands='' options='-o --output --name --format --metadata --no-metadata --sidecar --force --loop --bpm --bars --store --json -q --quiet -h --help'
      ;;
    tag)
      commands='' options='--add --rm --store --json -q --quiet -h --help'
      ;;
    name | undo | 'job list' | 'job show' | 'job wait' | 'job cancel')
      commands='' options='--store --json -q --quiet -h --help'
      ;;
    rm)
      commands='' options='--yes --undo --store --json -q --quiet -h --help'
      ;;
    import)
      commands='' options='-t --tag --creator --store --json -q --quiet -h --help'
      ;;
    gallery)
      commands='' options='-o --output -n -t --tag --creator --set --parent --model --search --since --until --embed --open --force --store --json -q --quiet -h --help'
      ;;
    serve)
      commands='' options='--host --port --model --engine --device --precision --slots --queue --api-key --api-key-file --allow-host --max-duration --log-prompts -h --help'
      ;;
    mcp)
      commands='' options='--local --no-local --model --engine --device --precision --url --timeout --max-wait --store -h --help'
      ;;
    doctor)
      commands='' options='--store --url --json -h --help'
      ;;
    job)
      commands='list show poll wait cancel' options='-h --help'
      ;;
    'job poll')
      commands='' options='--timeout-ms --mode --store --json -q --quiet -h --help'
      ;;
    model)
      commands='pull list show check rm' options='-h --help'
      ;;
    'model pull')
      commands='' options='--revision --precision --keep-weights --json -q --quiet -h --help'
      ;;
    'model list')
      commands='' options='--json -q --quiet -h --help'
      ;;
    'model show')
      commands='' options='--check --json -h --help'
      ;;
    'model check')
      commands='' options='--json -h --help'
      ;;
    'model rm')
      commands='' options='--yes --json -q --quiet -h --help'
      ;;
    store)
      commands='path stats check repair compact gc' options='-h --help'
      ;;
    'store path' | 'store stats')
      commands='' options='--store --json -h --help'
      ;;
    'store check')
      commands='' options='--full --store --json -h --help'
      ;;
    'store repair')
      commands='' options='--adopt --dry-run --store --json -h --help'
      ;;
    'store compact')
      commands='' options='--forget --dry-run --store --json -h --help'
      ;;
    'store gc')
      commands='' options='--yes --dry-run --store --json -h --help'
      ;;
    *) return 1 ;;
  esac
}

# Succeed for an option or argument that takes a value; set what completes the value.
_musicgen_takes() {
  case $1 in
    ' --show-completion')
      choices='bash zsh fish powershell'
      ;;
    'generate -d' | 'generate --duration' | 'generate --temperature' | 'generate --top-k' | 'generate --top-p' | 'generate -g' | 'generate --guidance-scale' | 'generate --seed' | 'generate --bars' | 'generate --bpm' | 'generate --overlap' | 'generate -n' | 'generate --variations' | 'generate --url' | 'generate --timeout' | 'generate --max-wait' | 'generate @'* | 'batch --sweep' | 'batch --run' | 'batch --jobs' | 'batch --retry' | 'batch --max-failures' | 'batch -d' | 'batch --duration' | 'batch --temperature' | 'batch --top-k' | 'batch --top-p' | 'batch -g' | 'batch --guidance-scale' | 'batch --seed' | 'batch --bars' | 'batch --bpm' | 'batch --overlap' | 'batch -n' | 'batch --variations' | 'batch --url' | 'batch --timeout' | 'batch --max-wait' | 'list -n' | 'list --search' | 'list --since' | 'list --until' | 'ls -n' | 'ls --search' | 'ls --since' | 'ls --until' | 'export --name' | 'export --bpm' | 'export --bars' | 'name @'* | 'gallery -n' | 'gallery --search' | 'gallery --since' | 'gallery --until' | 'serve --host' | 'serve --port' | 'serve --slots' | 'serve --queue' | 'serve --api-key' | 'serve --allow-host' | 'serve --max-duration' | 'mcp --url' | 'mcp --timeout' | 'mcp --max-wait' | 'doctor --url' | 'job poll --timeout-ms' | 'model pull --revision')
      ;;
    'generate --continue' | 'generate --melody' | 'batch --continue' | 'batch --melody')
      stored=takes paths=files
      ;;
    'generate -t' | 'generate --tag' | 'batch -t' | 'batch --tag' | 'list -t' | 'list --tag' | 'ls -t' | 'ls --tag' | 'tag --add' | 'tag --rm' | 'import -t' | 'import --tag' | 'gallery -t' | 'gallery --tag')
      stored=tags
      ;;
    'generate --creator' | 'batch --creator' | 'list --creator' | 'ls --creator' | 'import --creator' | 'gallery --creator')
      stored=creators
      ;;
    'generate --parent' | 'generate --from' | 'batch --parent' | 'batch --from' | 'list --parent' | 'ls --parent' | 'name @0' | 'gallery --parent')
      stored=takes
      ;;
    'generate --variation-set' | 'batch --variation-set' | 'list --set' | 'ls --set' | 'gallery --set')
      stored=sets
      ;;
    'generate --model' | 'batch --model' | 'serve --model' | 'mcp --model')
      stored=models paths=dirs
      ;;
    'generate --engine' | 'batch --engine' | 'serve --engine' | 'mcp --engine')
      choices='onnx native torch'
      ;;
    'generate --device' | 'batch --device' | 'serve --device' | 'mcp --device')
      choices='auto cpu cuda mps'
      ;;
    'generate --precision' | 'batch --precision' | 'serve --precision' | 'mcp --precision' | 'model pull --precision')
      choices='int8 fp32 bf16'
      ;;
    'generate -o' | 'generate --output' | 'batch --failed' | 'batch -o' | 'batch --output' | 'batch @0' | 'export -o' | 'export --output' | 'import @'* | 'gallery -o' | 'gallery --output' | 'serve --api-key-file')
      paths=files
      ;;
    'generate --store' | 'batch --store' | 'list --store' | 'ls --store' | 'show --store' | 'play --store' | 'export --store' | 'tag --store' | 'name --store' | 'rm --store' | 'undo --store' | 'import --store' | 'gallery --store' | 'mcp --store' | 'doctor --store' | 'job list --store' | 'job show --store' | 'job poll --store' | 'job wait --store' | 'job cancel --store' | 'store path --store' | 'store stats --store' | 'store check --store' | 'store repair --store' | 'store compact --store' | 'store gc --store')
      paths=dirs
      ;;
    'batch --input-format')
      choices='jsonl csv text'
      ;;
    'list --model' | 'ls --model' | 'gallery --model')
      stored=makers
      ;;
    'show @0' | 'play @'* | 'export @'* | 'tag @'*)
      stored=takes,sets
      ;;
    'export --format')
      choices='wav flac ogg mp3'
      ;;
    'rm @'*)
      stored=removable,sets
      ;;
    'undo @'*)
      stored=removed
      ;;
    'job show @0' | 'job poll @'* | 'job wait @'* | 'job cancel @'*)
      stored=jobs
      ;;
    'job poll --mode')
      choices='any all'
      ;;
    'model pull @0')
      stored=published paths=dirs
      ;;
    'model show @0' | 'model check @0')
      stored=here paths=dirs
      ;;
    'model rm @'*)
      stored=pulled
      ;;
    *) return 1 ;;
  esac
}

_musicgen_read() {
  local line=${COMP_LINE:0:COMP_POINT} char i begun=
  words=() word= head= quote= closed= redirected=
  for ((i = 0; i < ${#line}; i++)); do
    char=${line:i:1}
    if [[ $char == \\ && $quote != "'" ]]; then
      i=$((i + 1))
      word+=${line:i:1} begun=1
    elif [[ -n $quote ]]; then
      if [[ $char == "$quote" ]]; then quote= closed=1; else word+=$char; fi
    elif [[ $char == [\'\"] ]]; then
      quote=$char head=$word begun=1
    elif [[ $char == [[:space:]] ]]; then
      [[ -z $begun || -n $redirected ]] || words+=("$word")
      [[ -z $begun ]] || redirected=
      word= head= closed= begun=
    elif [[ $char == [\<\>] ]]; then
      word= head= begun= redirected=1
    else
      word+=$char begun=1
      [[ $COMP_WORDBREAKS != *"$char"* ]] || head=$word
    fi
  done
}

# Offer one value, quoted for the line, if it starts with the word that is being completed.
_musicgen_offer() {
  local value=$prefix$1 hint=$2 rest
  [[ $value == "$word"* && $value == "$head"* ]] || return 0
  rest=${value:${#head}}
  [[ -n $rest ]] || return 0
  case $quote in
    '')
      printf -v rest %q "$rest"
      [[ $rest != \$\'* ]] || return 0 # not printable in this locale
      ;;
    "'") [[ $rest != *\'* ]] || return 0 ;;
    *) [[ $rest != *[\"\$\`\\!]* ]] || return 0 ;;
  esac
  COMPREPLY+=("$rest")
  hints+=("$hint")
}

_musicgen_offer_stored() {
  local value hint i
  [[ $program == */* ]] || program=musicgen
  case $program in '~/'*) program=$HOME/${program#'~/'} ;; esac
  while IFS=$'\t' read -r value hint; do
    _musicgen_offer "$value" "$hint"
  done <<<"$(_MUSICGEN_COMPLETE=$stored command "$program" "${words[@]:1}" "${word#"$prefix"}" 2>/dev/null </dev/null)"
  # Hints are only for lists of candidates: readline inserts what all candidates have in common, or with some keys a
  # whole candidate. Ids alone get hints, as they differ before their hints start.
  [[ ${#COMPREPLY[@]} -gt 1 && " 9 33 63 64 " == *" $COMP_TYPE "* ]] || return 0
  for ((i = 0; i < ${#COMPREPLY[@]}; i++)); do
    [[ ${COMPREPLY[i]#artifact_} == *[!0-9a-f-]* ]] || COMPREPLY[i]+=${hints[i]:+  (${hints[i]})}
  done
}

_musicgen() {
  local IFS=$' \t\n' program=$1 words word head quote closed redirected hints=() each
  local command= option= prefix= only_arguments= argument=0
  local commands options offered= stored paths choices
  COMPREPLY=()
  _musicgen_read
  for each in "${words[@]:1}"; do
    if [[ -n $option ]]; then
      option=
    elif [[ -z $only_arguments && $each == -- ]]; then
      only_arguments=1
    elif [[ -z $only_arguments && $each == -?* ]]; then
      ! _musicgen_takes "$command $each" || option=$each
    elif _musicgen_knows "${command:+$command }$each"; then
      command=${command:+$command }$each
    else
      argument=$((argument + 1))
    fi
  done

  stored= paths= choices=
  _musicgen_knows "$command"
  if [[ -n $redirected ]]; then
    paths=files
  elif [[ -n $option ]]; then
    _musicgen_takes "$command $option"
  elif [[ -z $only_arguments && $word == --*=* ]]; then
    prefix=${word%%=*}=
    _musicgen_takes "$command ${word%%=*}"
  elif [[ -z $only_arguments && $word == -* ]]; then
    offered=$options
  elif [[ -n $commands ]]; then
    offered=$commands
  elif ! _musicgen_takes "$command @$argument" && [[ -z $only_arguments ]]; then
    offered=$options
  fi

  compopt -o nosort 2>/dev/null
  # Where nothing matches, bash itself completes files; before bash 4 that can't be turned off.
  [[ $paths == files ]] || compopt +o default 2>/dev/null
  [[ $paths != dirs ]] || compopt -o dirnames 2>/dev/null
  [[ -z $closed ]] || return 0 # `"al"bu`: it is unknown which part readline would replace
  for each in $offered $choices; do
    _musicgen_offer "$each"
  done
  [[ -z $stored ]] || _musicgen_offer_stored
  return 0
}

complete -o default -F _musicgen musicgen
