# fish completion for roster-diff; written by roster-diff --completion fish
complete -c roster-diff -s v -l verbose -d 'say more; may be repeated'
complete -c roster-diff -s q -l quiet -d 'say less; may be repeated'
complete -c roster-diff -l log-format -x -a 'text json' -d 'text or json lines on standard error (default text)'
complete -c roster-diff -s h -l help -d 'show this help and exit'
complete -c roster-diff -s V -l version -d 'show the version and exit'
