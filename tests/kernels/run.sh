#!/usr/bin/env bash
# Runs the kernels under sanitizers, without TensorFlow: `tests/kernels/run.sh`.
# `tests/kernels/run.sh valgrind 3` runs 3 rounds under valgrind instead.
set -euo pipefail
cd "$(dirname "$0")/../.."
SOURCES=deepspin/op/src
FOLDER=$(mktemp -d)
trap 'rm -rf "$FOLDER"' EXIT
build() { # name, flags
    local name=$1
    shift
    ${CXX:-c++} -std=c++17 -g1 -Wall -Wextra -Wno-psabi -pthread -fno-math-errno -fno-trapping-math \
        -DDEEPSPIN_ISA=base -I$SOURCES "$@" \
        tests/kernels/driver.cc $SOURCES/kernel.cc $SOURCES/pool.cc -o "$FOLDER/$name"
}
if [ "${1:-}" = valgrind ]; then
    build plain -O1
    valgrind -q --error-exitcode=1 --leak-check=no "$FOLDER/plain" "${2:-3}"
    exit
fi
ADDRESS="-fsanitize=address,undefined -fno-sanitize-recover=all"
build base -O1 $ADDRESS &
build native -O1 -march=native $ADDRESS &
wait -n && wait -n
build threads -O1 -fsanitize=thread
for name in base native threads; do
    echo "$name: $("$FOLDER/$name" "${1:-20}")"
done
