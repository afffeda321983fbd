/* base/scan.h - to the next byte that is not plain
 *
 * Text and values are runs of plain ASCII, mostly: a search that takes many bytes at a time. SSE2,
 * NEON, or eight bytes at a time (NO_SIMD=1, and all other processors). The compiler makes the best
 * of it where a to d are constants.
 */
#ifndef OUTBOARD_BASE_SCAN_H
#define OUTBOARD_BASE_SCAN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifndef NO_SIMD
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#else
#define NO_SIMD
#endif
#endif

/* Move *at in large steps over bytes that scan() does not look for. True: it looks for the one at
 * *at now. */
#if defined(NO_SIMD)

#define SCAN_EACH(byte) (0x0101010101010101u * (unsigned char)(byte))

static inline uint64_t scan_has_zero(uint64_t v)
{
	return (v - SCAN_EACH(1)) & ~v & SCAN_EACH(0x80);
}

static inline bool scan_stride(const char **at, const char *end, char a, char b, char c, char d)
{
	const char *p = *at;

	for (; end - p >= 8; p += 8) {
		uint64_t v;

		memcpy(&v, p, 8);
		/* a byte below 0x20 borrows; one from 0x80 on has its highest bit */
		if (scan_has_zero(v ^ SCAN_EACH(a)) | scan_has_zero(v ^ SCAN_EACH(b)) |
			scan_has_zero(v ^ SCAN_EACH(c)) | scan_has_zero(v ^ SCAN_EACH(d)) |
			(((v - SCAN_EACH(0x20)) | v) & SCAN_EACH(0x80)))
			break;
	}
	*at = p;
	return false;
}

#elif defined(__SSE2__)

static inline bool scan_stride(const char **at, const char *end, char a, char b, char c, char d)
{
	const char *p = *at;

	for (; end - p >= 16; p += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)p);
		__m128i ab = _mm_or_si128(
			_mm_cmpeq_epi8(v, _mm_set1_epi8(a)), _mm_cmpeq_epi8(v, _mm_set1_epi8(b)));
		__m128i cd = _mm_or_si128(
			_mm_cmpeq_epi8(v, _mm_set1_epi8(c)), _mm_cmpeq_epi8(v, _mm_set1_epi8(d)));
		/* signed: bytes from 0x80 on are below 0x20, too */
		__m128i others = _mm_cmpgt_epi8(_mm_set1_epi8(0x20), v);
		unsigned mask =
			(unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(ab, cd), others));

		if (mask) {
			*at = p + (unsigned)__builtin_ctz(mask);
			return true;
		}
	}
	*at = p;
	return false;
}

#else

static inline bool scan_stride(const char **at, const char *end, char a, char b, char c, char d)
{
	const char *p = *at;

	for (; end - p >= 16; p += 16) {
		int8x16_t v = vld1q_s8((const int8_t *)p);
		uint8x16_t ab = vorrq_u8(
			vceqq_s8(v, vdupq_n_s8((int8_t)a)), vceqq_s8(v, vdupq_n_s8((int8_t)b)));
		uint8x16_t cd = vorrq_u8(
			vceqq_s8(v, vdupq_n_s8((int8_t)c)), vceqq_s8(v, vdupq_n_s8((int8_t)d)));
		uint8x16_t hit = vorrq_u8(vorrq_u8(ab, cd), vcltq_s8(v, vdupq_n_s8(0x20)));
		/* four bits a byte */
		uint64_t mask = vget_lane_u64(
			vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(hit), 4)), 0);

		if (mask) {
			*at = p + (unsigned)__builtin_ctzll(mask) / 4;
			return true;
		}
	}
	*at = p;
	return false;
}

#endif

/* The first byte from p on that is one of a to d, a control character (but DEL) or not ASCII; or
 * end. */
static inline const char *scan(const char *p, const char *end, char a, char b, char c, char d)
{
	if (scan_stride(&p, end, a, b, c, d))
		return p;
	while (p < end && *p != a && *p != b && *p != c && *p != d && (signed char)*p >= 0x20)
		p++;
	return p;
}

#endif
