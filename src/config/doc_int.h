/* src/config/doc_int.h
 *
 * Bounds of the documents that config reads, whatever their language.
 */
#pragma once

enum { DOC_DEPTH_MAX = 64, DOC_NODES_MAX = 1000000, DOC_BYTES_MAX = 16 * 1024 * 1024 };
