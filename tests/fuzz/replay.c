/*
 * Runs a fuzz target over files and folders without a fuzzer: `make check` replays the committed
 * corpora this way, whatever the compiler.
 *
 * Each input is given in an allocation of exactly its size, so that memory checkers see a read
 * beyond its end.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static unsigned long inputs;

static int replay_file(const char *path, size_t size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *bytes = malloc(size ? size : 1);
	if (!file || !bytes || fread(bytes, 1, size, file) != size) {
		fprintf(stderr, "cannot read %s\n", path);
		exit(2);
	}
	fclose(file);
	LLVMFuzzerTestOneInput(bytes, size);
	free(bytes);
	inputs++;
	return 0;
}

static int replay(const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0) {
		fprintf(stderr, "cannot read %s\n", path);
		return 2;
	}
	if (!S_ISDIR(st.st_mode))
		return replay_file(path, (size_t)st.st_size);
	struct dirent **names;
	int count = scandir(path, &names, NULL, alphasort);
	for (int i = 0; i < count; i++) {
		char *inner = NULL;
		if (names[i]->d_name[0] != '.' &&
			asprintf(&inner, "%s/%s", path, names[i]->d_name) >= 0) {
			replay(inner);
			free(inner);
		}
		free(names[i]);
	}
	if (count >= 0)
		free(names);
	return count < 0 ? 2 : 0;
}

int main(int argc, char **argv)
{
	int status = 0;
	for (int i = 1; i < argc && status == 0; i++)
		status = replay(argv[i]);
	printf("%lu inputs\n", inputs);
	return status ? status : inputs == 0;
}
