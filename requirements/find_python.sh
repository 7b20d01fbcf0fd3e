#!/usr/bin/env bash
# Prints the Python that make uses for the environment VENV.
# Usage: requirements/find_python.sh VENV [PYTHON]
# PYTHON is a program or a version (3.13). Without it: that of VENV, if there is one; else 3.10, for which
# lava-nc is made; else the newest of 3.13, 3.12 and 3.11.
set -uo pipefail
venv="$1" wanted="${2:-}"
tested="3.10 3.13 3.12 3.11"

names="3.10, 3.11, 3.12 or 3.13"

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null | grep -E '^[0-9]+[.][0-9]+$'; }
fail() { echo "$*" >&2; exit 1; }

# The first Python of a version: on the path, pyenv's, or python3.
of_version() {
  local python
  for python in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python python3; do
    [ "$(version "$python")" = "$1" ] && { echo "$python"; return; }
  done
  return 1
}

if [ -n "$wanted" ]; then
  python="$wanted"
  found=$(version "$python") || { python=$(of_version "${wanted#python}") && found="${wanted#python}"; } \
    || fail "PYTHON is '$wanted', which does not run; expected Python $names"
  [[ " $tested " == *" $found "* ]] || fail "PYTHON is '$wanted', Python $found; expected $names"
  old=$(version "$venv/bin/python") || old="$found"
  [ "$old" = "$found" ] || fail "PYTHON is $found, and '$venv' holds Python $old. Add VENV=.venv-$found, or run make clean first"
  echo "$python"
elif found=$(version "$venv/bin/python"); then
  [[ " $tested " == *" $found "* ]] || fail "'$venv' holds Python $found; expected $names. Remove it, or set VENV to another folder"
  echo "$venv/bin/python"
else
  for each in $tested; do of_version "$each" && exit; done
  fail "no Python $names was found; install one, or set PYTHON=/path/to/python"
fi
