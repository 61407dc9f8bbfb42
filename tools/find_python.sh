#!/bin/sh
# Prints the first Python on this machine that can carry nstd (3.11 to 3.13 before anything newer,
# for which TensorFlow may have no wheel yet), or says in one sentence that there is none.
for want in '(3, 11) <= sys.version_info[:2] <= (3, 13)' 'sys.version_info >= (3, 11)'; do
    for name in "$@" python3 python3.12 python3.11 python3.13 python3.14 python; do
        # A name on the PATH may be a version manager's stub that refuses to start: ask it.
        if "$name" -c "import sys; sys.exit(not ($want))" >/dev/null 2>&1; then
            command -v "$name"
            exit 0
        fi
    done
done
echo "nstd needs Python 3.11 or newer, and none was found on the PATH." \
    "Install one (Debian 12: apt-get install python3 python3-venv make), or name it:" \
    "make PYTHON=/path/to/python3.12 ..." >&2
exit 69
