/* server/client-alabel.h - certificates of internationalised domains
 *
 * A certificate holds the A-labels of a domain (xn--..., RFC 6125 6.4.2), a stream its U-labels.
 * libstrophe has one name for both, and lets OpenSSL compare the certificate with that. Here
 * OpenSSL is told the A-labels when a handshake begins: the check is as strict as ever, but for the
 * right name. With another TLS library than OpenSSL this does nothing, and the certificate is
 * refused.
 */
#ifndef OUTBOARD_SERVER_CLIENT_ALABEL_H
#define OUTBOARD_SERVER_CLIENT_ALABEL_H

/* From now on each TLS handshake of this process asks for this name; borrowed. NULL: for the name
 * that libstrophe gives. One login at a time. */
void client_alabel_expect(const char *alabels);

#endif
