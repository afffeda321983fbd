# shellcheck shell=bash
# scenario [MODULE]: run the Python on standard input with all names of tests/tools/MODULE.py (filter)
# imported. It fails at the first failed assertion.
scenario()
{
	{
		echo "from ${1:-filter} import *"
		cat
	} >scenario.py
	PYTHONPATH=$TESTS/tools PYTHONDONTWRITEBYTECODE=1 python3 scenario.py
}
