#include "base/utf8.h"

int utf8_xml_character(const char *at, size_t n)
{
	const unsigned char *p = (const unsigned char *)at;
	unsigned long c = *p;
	int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;

	if (c < 0xc2 || c > 0xf4)
		return 0;
	if (n <= (size_t)more)
		return -1;
	c &= 0x3fu >> more;
	for (int i = 1; i <= more; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if ((more == 2 && c < 0x800) || (more == 3 && (c < 0x10000 || c > 0x10ffff)) ||
		(c >= 0xd800 && c <= 0xdfff) || c == 0xfffe || c == 0xffff)
		return 0;
	return more + 1;
}

bool utf8_xml_valid(struct span s)
{
	for (size_t i = 0; i < s.n;) {
		unsigned char c = (unsigned char)s.p[i];
		int n = 1;

		if (c >= 0x80)
			n = utf8_xml_character(s.p + i, s.n - i);
		else if (c < 0x20 && c != '\t' && c != '\n' && c != '\r')
			n = 0;
		if (n <= 0)
			return false;
		i += (size_t)n;
	}
	return true;
}

size_t utf8_length(struct span s)
{
	const unsigned char *u = (const unsigned char *)s.p;
	size_t n = !s.n		 ? 0
		   : u[0] < 0x80 ? 1
		   : u[0] < 0xc2 ? 0
		   : u[0] < 0xe0 ? 2
		   : u[0] < 0xf0 ? 3
		   : u[0] < 0xf5 ? 4
				 : 0;

	if (n > s.n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	/* written too long, surrogates, beyond U+10FFFF */
	if (n == 0)
		return 0;
	if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] >= 0xa0) ||
		(u[0] == 0xf0 && u[1] < 0x90) || (u[0] == 0xf4 && u[1] >= 0x90))
		return 0;
	return n;
}
