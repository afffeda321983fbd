# fish completion for jat-decode; written by jat-decode --completion fish
complete -c jat-decode -f
complete -c jat-decode -s e -l encoding -x -a 'sealed signed plain' -d 'sealed, signed or plain (default sealed or signed, by the token)'
complete -c jat-decode -s a -l asked -d 'print the address that was asked, too, after a TAB'
complete -c jat-decode -l stanza -d 'decode to of each stanza on standard input'
complete -c jat-decode -s d -l domain -x -d 'the proxy\'s domain'
complete -c jat-decode -s k -l key-file -r -F -d 'keys for sealed and signed tokens'
complete -c jat-decode -l max-stanza-bytes -x -d 'largest stanza read with --stanza (default 1M)'
complete -c jat-decode -l limit -x -a 'depth= attributes=' -d 'set one of the limits below (may be given several times)'
complete -c jat-decode -s v -l verbose -d 'say more; may be repeated'
complete -c jat-decode -s q -l quiet -d 'say less; may be repeated'
complete -c jat-decode -l log-format -x -a 'text json' -d 'text or json lines on standard error (default text)'
complete -c jat-decode -s h -l help -d 'show this help and exit'
complete -c jat-decode -s V -l version -d 'show the version and exit'
