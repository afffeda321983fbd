# fish completion for stanza-to-json; written by stanza-to-json --completion fish
complete -c stanza-to-json -f
complete -c stanza-to-json -l max-stanza-bytes -x -d 'largest stanza (default 1M)'
complete -c stanza-to-json -l limit -x -a 'depth= attributes=' -d 'set one of the limits below (may be given several times)'
complete -c stanza-to-json -s v -l verbose -d 'say more; may be repeated'
complete -c stanza-to-json -s q -l quiet -d 'say less; may be repeated'
complete -c stanza-to-json -l log-format -x -a 'text json' -d 'text or json lines on standard error (default text)'
complete -c stanza-to-json -s h -l help -d 'show this help and exit'
complete -c stanza-to-json -s V -l version -d 'show the version and exit'
