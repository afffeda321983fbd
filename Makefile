# outboard: pieces of an XMPP server, outside the server.
#
# make              build into build/, programs into build/bin/
# make check        install what is missing, run the whole test suite
# make check-now    run it with what is there: for a developer; FILES=tests/x.bats for one file
# make check-unit   only the unit tests and fuzz corpora; needs no package but those of make
# make check-servers SERVERS="prosody=COMMAND ejabberd=COMMAND"   the part with XMPP servers against those
#                   that these commands start (see tests/servers/servers.bash); the others are this machine's
# make demo         install what is missing, show the programs at work
# make install      PREFIX, DESTDIR, BINDIR, MANDIR, DOCDIR, SYSTEMDUNITDIR, BASHCOMPDIR,
#                   ZSHCOMPDIR, FISHCOMPDIR; and `make uninstall` with the same settings
# make lint         formatting, clang-tidy, shellcheck, mandoc (lint-quick: no clang-tidy)
# make format       let clang-format rewrite the sources
# make fuzz         every fuzz target for FUZZ_SECONDS (60) each; fuzz-merge keeps what is new
# make valgrind     the suite with every program under valgrind
# make bench        benchmarks; bench-servers with real servers
# make completions  regenerate completions/ from the option tables
# make picture      draw man/outboard.svg from man/outboard.pic (wants dpic)
# make versions     put the table of tests/data/versions into README
# make dist         build/outboard-VERSION.tar.gz, reproducible (SOURCE_DATE_EPOCH)
# make deb          build/deb/*.deb (Debian; wants .ci/install-deps check)
# make sizes        full tables at default options, all due at once: each request has one answer
# make soak         programs, clients and server killed at random under load (SOAK_REQUESTS, SOAK_SEED)
# make installcheck the filter part of the suite against the installed programs
# make check-32     the same with 32-bit programs (x86), see below
# make check-arm64  unit tests and fuzz corpora for ARM with 64 bits, see below
#
# Settings: V=1 (show commands), DEVELOPER=1 (warnings are errors; then OUTBOARD_READER=expat in the
# environment makes every program read with expat alone), NO_SIMD=1 (no vector instructions), SANITIZE=address,undefined,
# BUILD=build/NAME (a folder per configuration), CC, CFLAGS, CPPFLAGS, LDFLAGS,
# FILES="tests/x.bats ..." (only these), JOBS=2 (bats files at once), STRICT=1 (skips fail).
#
# 32 bits: check-32 builds the whole toolkit for i386 with gcc -m32, against Debian's i386 libraries,
# which it unpacks into build/32 (33 MB; nothing is installed, no foreign architecture added). It runs
# all unit tests, all fuzz corpora and the filter part of the suite: all modules that decide something,
# and every program as a filter. It leaves out the tests with servers, which are about sockets and
# time, not about sizes, and those with a preloaded library, which 64-bit shells cannot load. i386 runs
# on every x86-64 kernel, at full speed, and stands for all systems with 32 bits.
#
# ARM: check-arm64 does the same with a cross compiler and Debian's arm64 libraries, and runs the unit
# tests and fuzz corpora by qemu-user (packages gcc-aarch64-linux-gnu and qemu-user), for the vector
# instructions of NEON (base/scan.h). It leaves out the unit test that counts threads, to which qemu adds
# one, and takes minutes: it is no part of .ci/run.
VERSION = 0.1.0

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/outboard
SYSTEMDUNITDIR ?= $(PREFIX)/lib/systemd/system
BASHCOMPDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHCOMPDIR ?= $(PREFIX)/share/zsh/site-functions
FISHCOMPDIR ?= $(PREFIX)/share/fish/vendor_completions.d
BUILD ?= build
PKG_CONFIG ?= pkg-config
INSTALL ?= install
CLANG_FORMAT ?= clang-format
CLANG_TIDY ?= clang-tidy
FUZZ_SECONDS ?= 60
JOBS ?= 2
FILES ?=
# what runs the programs of check-unit
RUN =

PKGS = expat nettle libidn libstrophe libcurl json-c libmicrohttpd openssl
# Each function begins with a cache line, so that the time a stanza takes does not depend on what stands
# before its functions. Measured: 5 % less.
CFLAGS ?= -O3 -g -falign-functions=64
# The rows of option tables name only the fields they need.
WARNINGS = -Wall -Wextra -Wmissing-prototypes -Wstrict-prototypes -Wconversion -Wshadow \
	-Wno-missing-field-initializers
# Whether expat has its functions of 2.9 that tell positions in 64 bits.
EXPAT_POSITION := $(shell printf '%s\n' \
	'long f(XML_Parser p) { return (long)XML_GetCurrentByteIndex64(p) + (long)XML_GetCurrentByteCount64(p); }' \
	| $(CC) $(CPPFLAGS) -Werror -fsyntax-only -include expat.h -x c - 2>/dev/null && echo -DEXPAT_POSITION_64=1)
ifdef NO_SIMD
SIMD = -DNO_SIMD
endif
# empty with 64 bits
LARGE_FILES := $(shell getconf LFS_CFLAGS 2>/dev/null)
ALL_CPPFLAGS = -D_GNU_SOURCE $(LARGE_FILES) $(EXPAT_POSITION) $(SIMD) -DOUTBOARD_VERSION='"$(VERSION)"' -Ilib $(FORTIFY) $(PKG_CFLAGS) \
	$(CPPFLAGS)
ALL_CFLAGS = -std=c17 $(WARNINGS) -fstack-protector-strong $(CFLAGS) $(EXTRA_CFLAGS)
ALL_LDFLAGS = -Wl,--as-needed -Wl,-z,relro -Wl,-z,now $(LDFLAGS) $(EXTRA_LDFLAGS)

ifdef DEVELOPER
EXTRA_CFLAGS += -Werror
endif
ifdef SANITIZE
EXTRA_CFLAGS += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
EXTRA_LDFLAGS += -fsanitize=$(SANITIZE)
else ifneq ($(filter -O1 -O2 -O3 -Os,$(CFLAGS)),)
ifeq ($(findstring _FORTIFY_SOURCE,$(CFLAGS) $(CPPFLAGS)),)
FORTIFY = -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
endif
endif
ifndef V
Q = @
endif

PKG_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell $(PKG_CONFIG) --libs $(PKGS) 2>/dev/null)

LIB_SRC := $(wildcard lib/*/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o)
LIB := $(BUILD)/liboutboard.a
CMD_SRC := $(wildcard cmd/*.c)
BIN := $(CMD_SRC:cmd/%.c=$(BUILD)/bin/%)
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/*.c))
TOOLS := $(patsubst tests/tools/%.c,$(BUILD)/tools/%,$(wildcard tests/tools/*.c))
BENCH := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*.c))
FUZZ_NAMES := $(filter-out replay,$(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c)))
REPLAY := $(FUZZ_NAMES:%=$(BUILD)/fuzz/replay-%)
ifndef SANITIZE
PRELOAD := $(patsubst tests/preload/%.c,$(BUILD)/preload/%.so,$(wildcard tests/preload/*.c))
endif
FUZZERS := $(FUZZ_NAMES:%=$(BUILD)/fuzz/%)

PROGRAMS := $(CMD_SRC:cmd/%.c=%)
MAN := $(wildcard man/*.[1-8])
UNITS := $(wildcard cmd/*.service cmd/*.socket)
DOCS := README.md CHANGELOG.md
PICTURES := $(patsubst %.pic,%.svg,$(wildcard man/*.pic))

all: programs $(UNIT) $(TOOLS) $(REPLAY) $(PRELOAD)

programs: $(BIN)

# Objects are made anew when the compiler or its flags change.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(filter-out -Werror,$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS)))' >$@.new; \
	if cmp -s $@.new $@; then rm -f $@.new; else mv -f $@.new $@; fi

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo '  CC      $<')
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# OUTBOARD_READER=expat in the environment: see xmpp/reader.h. Of this object alone, so that the others
# are the same with and without DEVELOPER.
ifdef DEVELOPER
$(BUILD)/lib/xmpp/reader.o: ALL_CPPFLAGS += -DOUTBOARD_DEVELOPER
endif

$(LIB): $(LIB_OBJ)
	$(if $(Q),@echo '  AR      $@')
	$(Q)rm -f $@ && $(AR) qcs $@ $(LIB_OBJ)

LINK = @mkdir -p $(@D); $(if $(Q),echo '  LD      $@';) $(if $(V),set -x;) \
	$(CC) $(ALL_LDFLAGS) $(ALL_CFLAGS) -o $@ $(filter %.o %.a,$^) $(PKG_LIBS)

$(BUILD)/bin/%: $(BUILD)/cmd/%.o $(LIB)
	$(LINK)

$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(LIB)
	$(LINK)

$(BUILD)/tools/%: $(BUILD)/tests/tools/%.o $(LIB)
	$(LINK)

# The measuring programs share no code with the programs they measure. validate is the exception: it
# measures a function of the library.
$(BUILD)/bench/validate: $(LIB)

$(BUILD)/bench/%: $(BUILD)/tests/bench/%.o
	$(LINK)

$(BUILD)/preload/%.so: tests/preload/%.c $(wildcard tests/preload/*.h) $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo '  LD      $@')
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS) -shared -fPIC -o $@ $< -ldl

$(BUILD)/fuzz/replay-%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/replay.o $(LIB)
	$(LINK)

$(FUZZERS): $(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/%.o $(LIB)
	$(LINK) -fsanitize=fuzzer

# --- tests

# make asks pkg-config when it starts, so it must start again after packages were installed.
check demo:
	$(Q).ci/install-deps $@
	+$(Q)$(MAKE) --no-print-directory $@-now

check-now: all $(BENCH)
	$(Q)BUILD=$(BUILD) tests/run -j $(JOBS) $(FILES)

check-servers: all
	$(Q)BUILD=$(BUILD) SERVERS='$(SERVERS)' tests/run -j $(JOBS) --servers $(FILES)

demo-now: programs
	$(Q)BINDIR=$(abspath $(BUILD)/bin) tests/demo.bash

valgrind: all
	$(Q)BUILD=$(BUILD) WAIT_S=120 tests/run -j $(JOBS) -t 600 -w \
		'valgrind -q --leak-check=full --error-exitcode=99 --child-silent-after-fork=yes' $(FILES)

installcheck:
	$(Q)BUILD=$(BUILD) BINDIR=$(abspath $(DESTDIR)$(BINDIR)) tests/run -j $(JOBS) --installed $(FILES)

# The tests that need no bats: the build of a package runs them.
check-unit: $(UNIT) $(REPLAY)
	$(Q)for unit in $(UNIT); do \
		$(RUN) $$unit >$$unit.log 2>&1 || { cat $$unit.log; exit 1; }; tail -n 1 $$unit.log; done
	$(Q)for name in $(FUZZ_NAMES); do \
		$(RUN) $(BUILD)/fuzz/replay-$$name tests/fuzz/corpus/$$name || exit 1; done

check-filters: programs $(UNIT) $(REPLAY)
	$(Q)BUILD=$(BUILD) tests/run -j $(JOBS) --filters $(FILES)

ROOT32 = $(abspath build/32/root)
LIB32 = $(ROOT32)/usr/lib/i386-linux-gnu
GCC32 = $(ROOT32)/usr/lib/gcc/i686-linux-gnu/$(firstword $(subst ., ,$(shell gcc -dumpversion)))
# The programs find their loader and libraries in the folder where these were unpacked.
check-32:
	$(Q).ci/foreign-libraries i386 '$(ROOT32)'
	+$(Q)PKG_CONFIG_LIBDIR='$(LIB32)/pkgconfig:$(ROOT32)/usr/share/pkgconfig' \
		PKG_CONFIG_SYSROOT_DIR='$(ROOT32)' $(MAKE) --no-print-directory BUILD=build/32 PRELOAD= \
		LARGE_FILES='-D_LARGEFILE_SOURCE -D_FILE_OFFSET_BITS=64' \
		CC='gcc -m32 --sysroot=$(ROOT32) -isystem $(ROOT32)/usr/include/i386-linux-gnu -B$(GCC32) -B$(LIB32)' \
		LDFLAGS='-L$(GCC32) -Wl,--dynamic-linker=$(ROOT32)/lib/ld-linux.so.2,--disable-new-dtags,-rpath,$(ROOT32)/lib/i386-linux-gnu:$(LIB32)' \
		check-filters

ROOT_ARM64 = $(abspath build/arm64/root)
LIB_ARM64 = $(ROOT_ARM64)/usr/lib/aarch64-linux-gnu
check-arm64:
	$(Q).ci/foreign-libraries arm64 '$(ROOT_ARM64)'
	+$(Q)PKG_CONFIG_LIBDIR='$(LIB_ARM64)/pkgconfig:$(ROOT_ARM64)/usr/share/pkgconfig' \
		PKG_CONFIG_SYSROOT_DIR='$(ROOT_ARM64)' $(MAKE) --no-print-directory BUILD=build/arm64 PRELOAD= \
		CC='aarch64-linux-gnu-gcc --sysroot=$(ROOT_ARM64)' LDFLAGS='-Wl,-rpath-link,$(LIB_ARM64)' \
		RUN='qemu-aarch64 -L $(ROOT_ARM64)' \
		UNIT='$(patsubst $(BUILD)/%,build/arm64/%,$(filter-out %/component,$(UNIT)))' check-unit

bench-programs: $(BENCH)

# Numbers, not tests: nothing here fails for being slow.
bench: programs bench-programs
	$(Q)BUILD=$(BUILD) tests/bench/run

# It takes some minutes, because it waits for the default deadlines.
sizes: programs
	$(Q)dir=$$(mktemp -d) && cd "$$dir" && PATH=$(abspath $(BUILD))/bin:$$PATH PYTHONDONTWRITEBYTECODE=1 \
		python3 $(CURDIR)/tests/tools/defaultsizes.py; status=$$?; rm -rf "$$dir"; exit $$status

# It ends by itself, but takes long: 200 000 requests. Settings: SOAK_REQUESTS, SOAK_SEED.
soak: programs
	$(Q)BUILD=$(BUILD) tests/soak/run

bench-servers: programs bench-programs
	$(Q)BUILD=$(BUILD) tests/bench/run-servers

fuzz-programs: $(FUZZERS)

FUZZ_MAKE = $(MAKE) --no-print-directory BUILD=build/fuzz CC=clang CFLAGS='-O1 -g' \
	SANITIZE=address,undefined,fuzzer-no-link fuzz-programs

fuzz:
	+$(Q)$(FUZZ_MAKE)
	$(Q)BUILD=build/fuzz tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ_NAMES)

fuzz-merge:
	+$(Q)$(FUZZ_MAKE)
	$(Q)BUILD=build/fuzz tests/fuzz/run merge $(FUZZ_NAMES)

# --- checks of the sources

C_FILES = $(wildcard lib/*/*.[ch] cmd/*.[ch] tests/*/*.[ch])
SHELL_FILES = $(shell grep -lsE '^\#!.*(bash|bats|/sh)|^\# shellcheck shell=' -r .ci tests)

lint: lint-quick lint-tidy

lint-quick: lint-format lint-rooms lint-shell lint-man lint-headers lint-mains

lint-format:
	$(Q)$(CLANG_FORMAT) --dry-run -Werror $(C_FILES)

# The rooms of lib/ include only what stands above them.
lint-rooms:
	$(Q).ci/rooms lib

lint-shell:
	$(Q)shellcheck $(SHELL_FILES)

# mandoc warns of pages that are not installed on this machine; docs.bats checks the references.
lint-man:
	$(Q)command -v mandoc >/dev/null
	$(Q)! for m in $(MAN); do mandoc -T lint -W style $$m 2>&1; done | grep -vE 'referenced manual not found|mandoc\.db'

# Every header compiles alone.
lint-headers:
	$(Q)for h in lib/*/*.h; do \
		$(CC) $(ALL_CPPFLAGS) -std=c17 $(WARNINGS) -Werror -fsyntax-only -x c $$h || exit 1; done

# A main is thin: options -> config -> run.
lint-mains:
	$(Q)wc -l $(CMD_SRC) /dev/null | awk '$$2 ~ /\.c$$/ && $$1 > 120 { \
		print $$2 ": " $$1 " lines, more than 120"; bad = 1 } END { exit bad }'

lint-tidy: $(LIB_SRC:%=$(BUILD)/tidy/%) $(CMD_SRC:%=$(BUILD)/tidy/%)

$(BUILD)/tidy/%: % .clang-tidy $(wildcard lib/*/*.h)
	@mkdir -p $(@D)
	$(if $(Q),@echo '  TIDY    $<')
	$(Q)$(CLANG_TIDY) --quiet --warnings-as-errors='*' $< -- $(ALL_CPPFLAGS) -std=c17 2>$@.log || \
		{ cat $@.log; exit 1; }
	@touch $@

format:
	$(Q)$(CLANG_FORMAT) -i $(C_FILES)

completions: programs
	$(Q)tests/completions $(abspath $(BUILD)/bin) completions $(PROGRAMS)

# The pictures are committed, so building and installing need no dpic.
picture:
	$(Q)$(foreach p,$(PICTURES),.ci/picture $(p:.svg=.pic) >$(p).new && mv $(p).new $(p) &&) :

# README's table of servers and versions
versions:
	$(Q)tests/tools/versions.py into README.md

# --- installation

DIRS = $(BINDIR) $(DOCDIR) $(DOCDIR)/man $(SYSTEMDUNITDIR) $(BASHCOMPDIR) $(ZSHCOMPDIR) $(FISHCOMPDIR)
MANPATH_OF = $(MANDIR)/man$(subst .,,$(suffix $(1)))/$(notdir $(1))

install: programs
	$(INSTALL) -d $(DIRS:%='$(DESTDIR)%') $(foreach s,1 7 8,'$(DESTDIR)$(MANDIR)/man$(s)')
	$(if $(BIN),$(INSTALL) -m 755 $(BIN) '$(DESTDIR)$(BINDIR)')
	$(foreach m,$(MAN),$(INSTALL) -m 644 $(m) '$(DESTDIR)$(call MANPATH_OF,$(m))' &&) :
	$(INSTALL) -m 644 $(DOCS) '$(DESTDIR)$(DOCDIR)'
	$(INSTALL) -m 644 $(PICTURES) '$(DESTDIR)$(DOCDIR)/man'
	$(foreach u,$(UNITS),sed 's|@BINDIR@|$(BINDIR)|g' $(u) \
		>'$(DESTDIR)$(SYSTEMDUNITDIR)/$(notdir $(u))' && \
		chmod 644 '$(DESTDIR)$(SYSTEMDUNITDIR)/$(notdir $(u))' &&) :
	$(foreach p,$(wildcard completions/bash/*),$(INSTALL) -m 644 $(p) '$(DESTDIR)$(BASHCOMPDIR)' &&) :
	$(foreach p,$(wildcard completions/zsh/*),$(INSTALL) -m 644 $(p) '$(DESTDIR)$(ZSHCOMPDIR)' &&) :
	$(foreach p,$(wildcard completions/fish/*),$(INSTALL) -m 644 $(p) '$(DESTDIR)$(FISHCOMPDIR)' &&) :

uninstall:
	rm -f $(PROGRAMS:%='$(DESTDIR)$(BINDIR)/%') \
		$(foreach m,$(MAN),'$(DESTDIR)$(call MANPATH_OF,$(m))') \
		$(DOCS:%='$(DESTDIR)$(DOCDIR)/%') $(PICTURES:%='$(DESTDIR)$(DOCDIR)/%') \
		$(foreach u,$(UNITS),'$(DESTDIR)$(SYSTEMDUNITDIR)/$(notdir $(u))') \
		$(foreach p,$(wildcard completions/bash/*),'$(DESTDIR)$(BASHCOMPDIR)/$(notdir $(p))') \
		$(foreach p,$(wildcard completions/zsh/*),'$(DESTDIR)$(ZSHCOMPDIR)/$(notdir $(p))') \
		$(foreach p,$(wildcard completions/fish/*),'$(DESTDIR)$(FISHCOMPDIR)/$(notdir $(p))')

# The tarball holds what git tracks. Order, owner and time are fixed, so that a commit always gives the same
# bytes.
DIST = outboard-$(VERSION)
DISTDIR ?= build
dist:
	@mkdir -p '$(DISTDIR)'
	$(Q)time=$$(git log -1 --format=%ct) && \
	git ls-files -z | LC_ALL=C sort -z | tar --null --files-from=- --transform='s,^,$(DIST)/,' \
		--format=ustar --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
		--mtime="@$${SOURCE_DATE_EPOCH:-$$time}" -cf - | \
		gzip -n9 >'$(DISTDIR)/$(DIST).tar.gz'
	@echo '$(DISTDIR)/$(DIST).tar.gz'

# The package is built, without a signature, in a copy: this tree stays as it is.
DEB = $(DISTDIR)/deb
deb: dist
	$(Q)rm -rf $(DEB) && mkdir -p $(DEB)
	$(Q)cp $(DISTDIR)/$(DIST).tar.gz $(DEB)/outboard_$(VERSION).orig.tar.gz
	$(Q)tar -xzf $(DISTDIR)/$(DIST).tar.gz -C $(DEB)
	$(Q)cp -R .packaging/debian $(DEB)/$(DIST)/debian
	+$(Q)cd $(DEB)/$(DIST) && env -u MAKEFLAGS -u MAKEOVERRIDES -u MAKELEVEL -u BUILD -u BINDIR \
		-u LD_PRELOAD dpkg-buildpackage -us -uc -j$(JOBS) >../build.log 2>&1 || \
		{ tail -n 40 ../build.log; exit 1; }
	@ls $(DEB)/*.deb

clean:
	rm -rf $(BUILD)

-include $(LIB_OBJ:.o=.d) $(CMD_SRC:%.c=$(BUILD)/%.d) $(wildcard $(BUILD)/tests/*/*.d)

FORCE:
.PHONY: all programs check demo check-now demo-now check-32 check-arm64 check-servers check-filters check-unit valgrind installcheck bench bench-programs bench-servers \
	fuzz fuzz-programs fuzz-merge lint lint-quick lint-format lint-rooms lint-shell lint-man lint-headers \
	lint-mains lint-tidy \
	format completions picture install uninstall dist deb sizes soak clean FORCE
.SECONDARY:
