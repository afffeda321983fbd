#include "base/utf8.h"

bool utf8_xml_valid(struct span s)
{
	const unsigned char *p = (const unsigned char *)s.p, *end = s.n ? p + s.n : p;

	while (p < end) {
		unsigned long c = *p;
		int more;

		if (c < 0x80) {
			if (c < 0x20 && c != '\t' && c != '\n' && c != '\r')
				return false;
			p++;
			continue;
		}
		more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
		if (c < 0xc2 || c > 0xf4 || end - p <= more)
			return false;
		c &= 0x3fu >> more;
		for (int i = 1; i <= more; i++) {
			if ((p[i] & 0xc0) != 0x80)
				return false;
			c = c << 6 | (p[i] & 0x3f);
		}
		if ((more == 2 && c < 0x800) || (more == 3 && (c < 0x10000 || c > 0x10ffff)) ||
			(c >= 0xd800 && c <= 0xdfff) || c == 0xfffe || c == 0xffff)
			return false;
		p += more + 1;
	}
	return true;
}
