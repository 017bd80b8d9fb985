/* src/model/limits.h
 *
 * Every limit that bounds a queue, a table or a wait and has no Envoy field, or the default of one that
 * has (robustness.md 2, 4, 5). Bytes, microseconds or counts as named.
 */
#pragma once

enum {
	LIMIT_HEAD_KIB = 60,
	LIMIT_HEAD_KIB_HARD = 8192,
	LIMIT_FIELDS = 100,
	LIMIT_FIELDS_HARD = 10000,
	LIMIT_TARGET = 16 * 1024,
	LIMIT_METHOD = 32,
	LIMIT_NAME = 256,
	LIMIT_INTERIM = 32,
	LIMIT_INTERIM_BYTES = 64 * 1024,
	LIMIT_CHUNK_LINE = 256,
	LIMIT_CHUNK_EXT = 16 * 1024,
	LIMIT_TRAILER_BYTES = 8 * 1024,
	LIMIT_TRAILER_FIELDS = 20,
	LIMIT_GATHER = 16 * 1024 * 1024,
	LIMIT_GATHER_HARD = 256 * 1024 * 1024,
	LIMIT_CALL_BODY = 16 * 1024 * 1024,
	LIMIT_CALLS = 4096,
	LIMIT_STREAM_HIGH = 32 * 1024,
	LIMIT_STREAM_LOW = 16 * 1024,
	LIMIT_DISCARD = 64 * 1024, /* read and thrown away after a refusal */
	LIMIT_ACCEPTS = 64,        /* per listener and turn */
	LIMIT_WRITE = 48 * 1024,   /* per write call */
	LIMIT_SPARES =
		4, /* idle connections per host and worker that are kept to the idle timeout */
	LIMIT_FILTERS = 16,           /* in one chain */
	LIMIT_SPLICE = 64 * 1024,     /* length of a body for splice(2) to be worth a pipe */
	LIMIT_SPLICE_TAIL = 8 * 1024, /* what is left of it for another turn */
	LIMIT_SENDFILE = 48 * 1024,   /* what is left of a file for sendfile(2) to be worth it */
	LIMIT_COPY_BEHIND_HEAD = 4096,
	LIMIT_REPLY_ROOM = 32 * 1024 /* of an exchange's arena, for a local reply alone */
};
#define LIMIT_CONNECT_US 5000000ull
#define LIMIT_HANDSHAKE_US 10000000ull
#define LIMIT_HEADERS_US 10000000ull
#define LIMIT_STREAM_IDLE_US 300000000ull
#define LIMIT_IDLE_US 3600000000ull
#define LIMIT_UPSTREAM_IDLE_US 55000000ull
#define LIMIT_SPARE_IDLE_US \
	3000000ull /* idle origin connections beyond LIMIT_SPARES, where idle_timeout is not configured */
#define LIMIT_ROUTE_US 15000000ull
#define LIMIT_DELAYED_CLOSE_US 1000000ull
#define LIMIT_DNS_US 5000000ull
