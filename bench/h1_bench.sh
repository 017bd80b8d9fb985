#!/bin/sh
# Instructions per HTTP/1 head, parsed and written (bench/h1_bench.c). Needs gcc and valgrind.
set -eu
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
${CC:-gcc} -std=gnu17 -O2 -g -fno-strict-overflow -fstack-protector-strong -fomit-frame-pointer -fPIE -pie \
	-D_GNU_SOURCE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -DHAVE_CALLGRIND -Isrc ${CFLAGS:-} -o "$dir/bench" bench/h1_bench.c \
	src/http/names.c src/http/scan.c src/http/head.c src/http/h1_parse.c src/http/h1_write.c \
	src/base/arena.c src/base/mem.c src/base/must.c src/base/str.c -pthread
"$dir/bench"
valgrind --tool=callgrind --callgrind-out-file="$dir/out" "$dir/bench" >/dev/null 2>"$dir/log" || { cat "$dir/log"; exit 1; }
for f in "$dir"/out.[0-9]*; do
	what=$(sed -n 's/^desc: Trigger: Client Request: //p' "$f")
	n=$(sed -n 's/^totals: //p' "$f")
	[ "${what:-Program termination}" = "Program termination" ] || echo "$what: $((n / 1000)) instructions"
done
