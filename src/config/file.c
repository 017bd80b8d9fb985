/* src/config/file.c: a document from a file, in the language it is written in. */
#include "config/config.h"
#include "config/doc_int.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Also a pipe ("-c <(...)", /dev/stdin): read to its end, whatever fstat says. */
static bool read_whole(struct arena *a, struct diags *d, const char *file, struct str *out)
{
	struct doc_place at = {file, 0, 0};
	struct stat st;
	size_t n = 0, cap = 64 * 1024;
	char *p = NULL;
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		goto fail;
	if (S_ISREG(st.st_mode))
		cap = st.st_size < DOC_BYTES_MAX ? (size_t)st.st_size + 2 : DOC_BYTES_MAX + 2;
	if (!(p = mem_alloc(MEM_CONFIG, cap)))
		goto no_memory;
	for (;;) {
		if (n == cap) {
			char *more = cap < DOC_BYTES_MAX + 2 ? mem_realloc(MEM_CONFIG, p, cap * 2)
							     : NULL;
			if (!more)
				goto no_memory;
			p = more;
			cap *= 2;
		}
		ssize_t got = read(fd, p + n, cap - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			goto fail;
		if (got == 0)
			break;
		n += (size_t)got;
		if (n > DOC_BYTES_MAX) {
			diag_at(d, DIAG_ERROR, at, "is larger than 16 MiB");
			goto out;
		}
	}
	*out = arena_str(a, (struct str){p, n});
	if (!out->p)
		goto no_memory;
	mem_free(MEM_CONFIG, p);
	close(fd);
	return true;
no_memory:
	diag_at(d, DIAG_ERROR, at, "out of memory");
	goto out;
fail:
	diag_at(d, DIAG_ERROR, at, "%s", strerror(errno));
out:
	mem_free(MEM_CONFIG, p);
	if (fd >= 0)
		close(fd);
	return false;
}

static bool looks_like_json(struct str text)
{
	if (str_starts(text, STR("\xef\xbb\xbf")))
		text = str_from(text, 3);
	for (size_t i = 0; i < text.n; i++)
		if (!memchr(" \t\r\n", text.p[i], 4))
			return text.p[i] == '{' || text.p[i] == '[';
	return false;
}

/* Text that starts like JSON may be YAML's flow form: when JSON will not have it, YAML judges. */
static struct doc *json_or_yaml(struct arena *a, struct diags *d, const char *file, struct str text)
{
	struct diags own;
	struct arena_mark mark = arena_mark(a);
	diags_init(&own);
	struct doc *root = doc_from_json(a, &own, file, text);
	diags_fini(&own);
	if (root)
		return root;
	arena_drop(a, mark);
	return doc_from_yaml(a, d, file, text);
}

struct doc *doc_from_file(struct arena *a, struct diags *d, const char *file)
{
	struct str text = {0};
	if (!read_whole(a, d, file, &text))
		return NULL;
	if (str_ends(str_of(file), STR(".json")))
		return doc_from_json(a, d, file, text);
	return looks_like_json(text) ? json_or_yaml(a, d, file, text)
				     : doc_from_yaml(a, d, file, text);
}
