#!/usr/bin/env bash
# Runs the kernels under sanitizers, without TensorFlow: `tests/kernels/run.sh`.
# `tests/kernels/run.sh valgrind 3` runs 3 rounds under valgrind instead, and
# `tests/kernels/run.sh fuzz 30` gives them inputs with faults for 30 seconds.
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
if [ "${1:-}" = fuzz ]; then
    KERNELS="$SOURCES/ops.cc $SOURCES/kernel.cc $SOURCES/pool.cc $SOURCES/neighbors.cc"
    TARGET="fuzz fuzz_operations fuzz_neighbors fuzz_main stand_in"
    object() { # source, flags
        local source=$1
        shift
        ${CXX:-c++} -std=c++17 -g1 -O0 -Wall -Wextra -Wno-psabi -pthread -fno-math-errno \
            -fno-trapping-math -ffp-contract=off -DDEEPSPIN_ISA=base -I$SOURCES $ADDRESS \
            -fsanitize=float-cast-overflow "$@" -c "$source" -o "$FOLDER/$(basename "$source").o"
    }
    PIDS=
    for source in $KERNELS; do object "$source" -fsanitize-coverage=trace-pc & PIDS+=" $!"; done
    for name in $TARGET; do object "tests/kernels/$name.cc" & PIDS+=" $!"; done
    for pid in $PIDS; do wait "$pid"; done
    ${CXX:-c++} -pthread $ADDRESS "$FOLDER"/*.o -o "$FOLDER/fuzz"
    shift
    "$FOLDER/fuzz" "${@:-30}"
    exit
fi
build base -O1 $ADDRESS &
build native -O1 -march=native $ADDRESS &
wait -n && wait -n
build threads -O1 -fsanitize=thread
for name in base native threads; do
    echo "$name: $("$FOLDER/$name" "${1:-20}")"
done
