# outboard: pieces of an XMPP server, outside the server.
#
# make            build into build/, programs into build/bin/
# make check      install what is missing, run the whole test suite
# make demo       install what is missing, show the programs at work
VERSION = 0.1.0

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
SYSTEMDUNITDIR ?= $(PREFIX)/lib/systemd/system
BUILD ?= build
PKG_CONFIG ?= pkg-config

PKGS = expat nettle libidn libstrophe libcurl json-c libmicrohttpd
CFLAGS ?= -O2 -g
WARNINGS = -Wall -Wextra -Wmissing-prototypes -Wstrict-prototypes -Wconversion -Wshadow
ALL_CPPFLAGS = -D_GNU_SOURCE -DOUTBOARD_VERSION='"$(VERSION)"' -Ilib $(PKG_CFLAGS) $(CPPFLAGS)
ALL_CFLAGS = -std=c17 $(WARNINGS) -fstack-protector-strong $(CFLAGS) $(EXTRA_CFLAGS)
ALL_LDFLAGS = -Wl,--as-needed $(LDFLAGS) $(EXTRA_LDFLAGS)

ifdef DEVELOPER
EXTRA_CFLAGS += -Werror
endif
ifdef SANITIZE
EXTRA_CFLAGS += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
EXTRA_LDFLAGS += -fsanitize=$(SANITIZE)
endif
ifndef V
Q = @
endif

PKG_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell $(PKG_CONFIG) --libs $(PKGS) 2>/dev/null)

LIB_SRC := $(wildcard lib/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o)
LIB := $(BUILD)/liboutboard.a
CMD_SRC := $(wildcard cmd/*.c)
BIN := $(CMD_SRC:cmd/%.c=$(BUILD)/bin/%)
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/*.c))

BENCH := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*.c))

all: $(BIN) $(UNIT)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(Q),@echo '  CC      $<')
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(LIB): $(LIB_OBJ)
	$(if $(Q),@echo '  AR      $@')
	$(Q)rm -f $@ && $(AR) rcs $@ $(LIB_OBJ)

$(BUILD)/bin/%: $(BUILD)/cmd/%.o $(LIB)
	@mkdir -p $(@D)
	$(if $(Q),@echo '  LD      $@')
	$(Q)$(CC) $(ALL_LDFLAGS) $(ALL_CFLAGS) -o $@ $< $(LIB) $(PKG_LIBS)

$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(LIB)
	@mkdir -p $(@D)
	$(if $(Q),@echo '  LD      $@')
	$(Q)$(CC) $(ALL_LDFLAGS) $(ALL_CFLAGS) -o $@ $< $(LIB) $(PKG_LIBS)

# What measures shares no code with what is measured.
$(BUILD)/bench/%: $(BUILD)/tests/bench/%.o
	@mkdir -p $(@D)
	$(if $(Q),@echo '  LD      $@')
	$(Q)$(CC) $(ALL_LDFLAGS) $(ALL_CFLAGS) -o $@ $< $(PKG_LIBS)

bench-programs: $(BENCH)

# Numbers, not tests: nothing here fails for being slow.
bench: all bench-programs
	BUILD=$(BUILD) tests/bench/run

bench-servers: all bench-programs
	BUILD=$(BUILD) tests/bench/run-servers

clean:
	rm -rf $(BUILD)

-include $(LIB_OBJ:.o=.d) $(CMD_SRC:%.c=$(BUILD)/%.d) $(wildcard $(BUILD)/tests/*/*.d)

.PHONY: all bench bench-programs bench-servers clean
.SECONDARY:
