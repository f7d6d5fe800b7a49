# SPDX-License-Identifier: MIT
#
# make            build/libpinstage.so, build/pinstage-keeper, build/pinstage
# make demo       the main job, shown with Debian's fio
# make check      every test
# make help       everything else

VERSION := 0.1.0
PREFIX ?= /usr/local
BUILD ?= build$(if $(SANITIZE),/sanitize)
PKG_CONFIG ?= pkg-config
CFLAGS ?= -O2 -g

WARNINGS := -Wall -Wextra -Wshadow -Wpointer-arith -Wcast-qual -Wstrict-prototypes \
	-Wmissing-prototypes -Wmissing-declarations -Wold-style-definition -Wwrite-strings \
	-Wvla -Wundef -Wformat=2 -Winit-self -Wnull-dereference $(if $(WERROR),-Werror)
SANITIZERS := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all)

ALL_CPPFLAGS = -D_GNU_SOURCE -DPINSTAGE_VERSION='"$(VERSION)"' -Iinclude -Ishim -MMD -MP $(CPPFLAGS)
ALL_CFLAGS = -std=gnu11 -fvisibility=hidden -fPIC $(WARNINGS) $(CFLAGS) $(SANITIZERS)
ALL_LDFLAGS = -Wl,-z,relro,-z,now $(CFLAGS) $(LDFLAGS) $(SANITIZERS)

# Files that define libc's own names must see the plain prototypes: distribution flags
# would rename them (_FILE_OFFSET_BITS) or inline them (_FORTIFY_SOURCE).
HOOK_CPPFLAGS := -U_FILE_OFFSET_BITS -U_FORTIFY_SOURCE

COMMON_SRC := $(wildcard shim/common/*.c)
LIB_SRC := $(wildcard shim/lib/*.c)
KEEPER_SRC := $(wildcard shim/keeper/*.c)
COMMAND_SRC := $(wildcard shim/command/*.c)
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

PROGRAMS := $(BUILD)/libpinstage.so $(BUILD)/pinstage-keeper $(BUILD)/pinstage

all: $(PROGRAMS)

# libbsd provides sys/tree.h only: a header, nothing is linked.
$(BUILD)/libpinstage.so: $(call objects,$(LIB_SRC) $(COMMON_SRC)) $(BUILD)/libpinstage.map
	$(CC) $(ALL_LDFLAGS) -shared -Wl,--version-script=$(BUILD)/libpinstage.map -Wl,-z,defs \
		-o $@ $(filter %.o,$^)

$(BUILD)/pinstage-keeper: $(call objects,$(KEEPER_SRC) $(COMMON_SRC))
	$(CC) $(ALL_LDFLAGS) -o $@ $^

$(BUILD)/pinstage: $(call objects,$(COMMAND_SRC) $(COMMON_SRC))
	$(CC) $(ALL_LDFLAGS) -o $@ $^

# What the library exports is what the table of hooks says, and nothing else.
$(BUILD)/libpinstage.map: shim/lib/table.h shim/lib/map.awk Makefile | $(BUILD)/
	$(CC) -E -P -x c -DPINSTAGE_TABLE_ONLY $(ALL_CPPFLAGS) -MF $@.d -MT $@ shim/lib/table.h | awk -f shim/lib/map.awk > $@.tmp
	mv $@.tmp $@

$(BUILD)/obj/shim/lib/%.o: ALL_CPPFLAGS += $(HOOK_CPPFLAGS)
$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -c -o $@ $<

%/:
	mkdir -p $@

clean:
	rm -rf build

.PHONY: all clean
.DELETE_ON_ERROR:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
