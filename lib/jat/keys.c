/* keys.c - see keys.h */
#include "jat/keys.h"

#include <errno.h>
#include <unistd.h>

#include "base/err.h"
#include "base/random.h"
#include "base/io.h"

struct jat_keys *jatkeys_read(const struct secret *source, bool again, int *status)
{
	struct jat_keys *keys = NULL;
	struct buf file;
	size_t line;

	buf_init(&file, SECRET_MAX_BYTES);
	*status = (again ? secret_read_again : secret_read)(source, "key file", &file);
	if (*status == EXIT_DONE) {
		keys = jat_keys_parse(buf_span(&file), &line);
		if (!keys) {
			*status = EXIT_CONFIG;
			if (line)
				err_error("key file, line %zu: not 'KEYID SP 64 hex digits', or a "
					  "KEYID that was there before",
					line);
			else
				err_error("key file: no key in it");
		}
	} else if (source->file && access(source->file, F_OK) < 0 && errno == ENOENT) {
		err_error("'jat-encode --create-key --key-file %s' makes one", source->file);
	}
	secret_wipe(&file);
	return keys;
}

static int status_of(int error)
{
	switch (error) {
	case ENOSPC:
	case EDQUOT:
	case EIO:
		return EXIT_IO;
	default:
		return io_error_status(-error, EXIT_CONFIG);
	}
}

int jatkeys_create(const char *path)
{
	unsigned char bytes[JAT_KEY_BYTES];
	struct buf file;
	int error;

	random_bytes(bytes, sizeof(bytes));
	buf_init(&file, BUF_NO_MAX);
	jat_keys_format(bytes, &file);
	explicit_bzero(bytes, sizeof(bytes));
	error = io_create_file(path, buf_span(&file), 0600);
	secret_wipe(&file);
	if (error == 0 || error == -EEXIST)
		return EXIT_DONE;
	err_error("cannot write '%s': %s", path, strerror(-error));
	return status_of(-error);
}
