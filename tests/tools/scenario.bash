# shellcheck shell=bash
# scenario [MODULE]: run the Python on standard input, all names of tests/tools/MODULE.py
# (filter) at hand. It fails as Python fails: at the first assertion.
scenario()
{
	{
		echo "from ${1:-filter} import *"
		cat
	} >scenario.py
	PYTHONPATH=$TESTS/tools PYTHONDONTWRITEBYTECODE=1 python3 scenario.py
}
