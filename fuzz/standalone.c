/* fuzz/standalone.c
 *
 * Runs one fuzz target over the files of a folder (or single files), without libFuzzer: the corpus as a
 * test in any build and with any compiler. An empty folder fails, for it would prove nothing.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static int run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	if (!f || fstat(fileno(f), &st)) {
		perror(path);
		exit(2);
	}
	size_t n = (size_t)st.st_size;
	/* Exactly n bytes, so that AddressSanitizer sees a read beyond the end. */
	uint8_t *data = malloc(n ? n : 1);
	if (!data || fread(data, 1, n, f) != n) {
		perror(path);
		exit(2);
	}
	fclose(f);
	/* the last one named is the culprit of a crash */
	fprintf(stderr, "%s: %zu bytes\n", path, n);
	LLVMFuzzerTestOneInput(data, n);
	free(data);
	return 1;
}

static int run_path(const char *path)
{
	DIR *d = opendir(path);
	if (!d)
		return run_file(path);
	int ran = 0;
	struct dirent *e;
	while ((e = readdir(d))) {
		char sub[4096];
		if (e->d_name[0] == '.')
			continue;
		snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
		ran += run_path(sub);
	}
	closedir(d);
	return ran;
}

int main(int argc, char **argv)
{
	int ran = 0;
	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++)
		ran += run_path(argv[i]);
	printf("%d inputs\n", ran);
	return ran == 0;
}
