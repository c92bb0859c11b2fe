#!/usr/bin/env bash
# Runs the kernels under sanitizers, without TensorFlow: `tests/kernels/run.sh`.
# `tests/kernels/run.sh valgrind 3` runs 3 rounds under valgrind instead, and
# `tests/kernels/run.sh fuzz 30` gives them inputs with faults for 30 seconds.
# `tests/kernels/run.sh aarch64 20` compiles them for AArch64, emulates 20 rounds and compares
# their numbers with those of this processor.
set -euo pipefail
cd "$(dirname "$0")/../.."
SOURCES=deepspin/op/src
KERNELS="$SOURCES/kernel.cc $SOURCES/invariant.cc $SOURCES/pool.cc"
FOLDER=$(mktemp -d)
trap 'rm -rf "$FOLDER"' EXIT
build() { # name, flags
    local name=$1
    shift
    ${CXX:-c++} -std=c++17 -g1 -Wall -Wextra -Wno-psabi -pthread -fno-math-errno -fno-trapping-math \
        -DDEEPSPIN_ISA=base -I$SOURCES "$@" tests/kernels/driver*.cc $KERNELS -o "$FOLDER/$name"
}
if [ "${1:-}" = valgrind ]; then
    build plain -O1
    valgrind -q --error-exitcode=1 --leak-check=no "$FOLDER/plain" "${2:-3}"
    exit
fi
if [ "${1:-}" = aarch64 ]; then
    NAME=aarch64-linux-gnu
    for program in $NAME-g++ $NAME-objdump qemu-aarch64; do
        if ! command -v $program >/dev/null; then
            echo "AArch64 is left out: no $program (apt install g++-$NAME qemu-user)"
            exit
        fi
    done
    build here -O2 &
    CXX=$NAME-g++ build aarch64 -O3 -static &
    wait -n && wait -n
    "$FOLDER/here" "${2:-20}" write "$FOLDER/results"
    echo "aarch64: $(qemu-aarch64 "$FOLDER/aarch64" "${2:-20}" compare "$FOLDER/results")"
    $NAME-objdump -d "$FOLDER/aarch64" >"$FOLDER/code"
    count() { grep -cP "\\t$1" "$FOLDER/code"; }
    VECTORS=$(count 'fmla\tv\d+\.(2d|4s)') NUMBERS=$(count 'fn?m(add|sub)\t')
    echo "multiply-adds of vectors: $VECTORS, of single numbers: $NUMBERS"
    [ "$VECTORS" -gt "$NUMBERS" ] # else NEON is not made use of
    exit
fi
ADDRESS="-fsanitize=address,undefined -fno-sanitize-recover=all"
if [ "${1:-}" = fuzz ]; then
    KERNELS+=" $SOURCES/ops.cc $SOURCES/invariant_ops.cc $SOURCES/neighbors.cc"
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
