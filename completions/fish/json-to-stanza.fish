# fish completion for json-to-stanza; written by json-to-stanza --completion fish
complete -c json-to-stanza -f
complete -c json-to-stanza -l max-stanza-bytes -x -d 'largest stanza written (default 1M)'
complete -c json-to-stanza -l limit -x -a 'line-bytes=' -d 'set one of the limits below (may be given several times)'
complete -c json-to-stanza -s v -l verbose -d 'say more; may be repeated'
complete -c json-to-stanza -s q -l quiet -d 'say less; may be repeated'
complete -c json-to-stanza -l log-format -x -a 'text json' -d 'text or json lines on standard error (default text)'
complete -c json-to-stanza -s h -l help -d 'show this help and exit'
complete -c json-to-stanza -s V -l version -d 'show the version and exit'
