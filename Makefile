# SPDX-License-Identifier: MIT
#
# make            build/libpinstage.so, build/pinstage-keeper, build/pinstage
# make demo       the main job, shown with Debian's fio
# make check      every test
# make help       everything else

VERSION := 0.1.0
PREFIX ?= /usr/local
libdir = $(PREFIX)/lib
mandir = $(PREFIX)/share/man
pkgconfigdir = $(libdir)/pkgconfig
completiondir = $(PREFIX)/share/bash-completion/completions
unitdir ?= $(PREFIX)/lib/systemd
BUILD ?= build$(if $(SANITIZE),/sanitize)
PKG_CONFIG ?= pkg-config
CFLAGS ?= -O2 -g

# One short line for each file; V=1: the whole commands; -s: nothing.
quiet = $(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),,@printf '  %-4s %s\n' $(1) $@ && )

# DEPS=no: what is missing is neither looked for nor installed.
deps = $(if $(filter no,$(DEPS)),:,tests/deps) $(1)

WARNINGS := -Wall -Wextra -Wshadow -Wpointer-arith -Wcast-qual -Wstrict-prototypes \
	-Wmissing-prototypes -Wmissing-declarations -Wold-style-definition -Wwrite-strings \
	-Wvla -Wundef -Wformat=2 -Winit-self -Wnull-dereference $(if $(WERROR),-Werror)
SANITIZERS := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all)

ALL_CPPFLAGS = -D_GNU_SOURCE -DPINSTAGE_VERSION='"$(VERSION)"' -Iinclude -Ishim -MMD -MP $(CPPFLAGS)
ALL_CFLAGS = -std=gnu11 -fvisibility=hidden -fPIC $(WARNINGS) $(CFLAGS) $(SANITIZERS)
ALL_LDFLAGS = -Wl,-z,relro,-z,now $(CFLAGS) $(LDFLAGS) $(SANITIZERS)

# The library links libc only, the keeper likewise; the command uses what serves.
COMMAND_PACKAGES := smartcols json-c libdw libelf
COMMAND_CFLAGS = $(shell $(PKG_CONFIG) --cflags $(COMMAND_PACKAGES))
COMMAND_LIBS = $(shell $(PKG_CONFIG) --libs $(COMMAND_PACKAGES))

# Files that define libc's own names must see the plain prototypes: distribution flags
# would rename them (_FILE_OFFSET_BITS, _TIME_BITS) or inline them (_FORTIFY_SOURCE).
HOOK_CPPFLAGS := -U_FILE_OFFSET_BITS -U_TIME_BITS -U_FORTIFY_SOURCE

COMMON_SRC := $(wildcard shim/common/*.c)
LIB_SRC := $(wildcard shim/lib/*.c)
KEEPER_SRC := $(wildcard shim/keeper/*.c)
# Of the library, what decides where files may be staged: doctor says it.
COMMAND_SRC := $(wildcard shim/command/*.c) shim/lib/policy.c
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

PROGRAMS := $(BUILD)/libpinstage.so $(BUILD)/pinstage-keeper $(BUILD)/pinstage

all: $(PROGRAMS)

# libbsd provides sys/tree.h only: a header, nothing is linked.
$(BUILD)/libpinstage.so: $(call objects,$(LIB_SRC) $(COMMON_SRC)) $(BUILD)/libpinstage.map
	$(call quiet,LD)$(CC) $(ALL_LDFLAGS) -shared -Wl,--version-script=$(BUILD)/libpinstage.map -Wl,-z,defs \
		-o $@ $(filter %.o,$^)

$(BUILD)/pinstage-keeper: $(call objects,$(KEEPER_SRC) $(COMMON_SRC))
	$(call quiet,LD)$(CC) $(ALL_LDFLAGS) -o $@ $^

# `pinstage rescue` finds changed pages as the keeper does.
$(BUILD)/pinstage: $(call objects,$(COMMAND_SRC) $(COMMON_SRC) $(wildcard shim/keeper/digest*.c))
	$(call quiet,LD)$(CC) $(ALL_LDFLAGS) -o $@ $^ -Wl,--as-needed $(COMMAND_LIBS)

# What the library exports is what the table of hooks says, and nothing else.
$(BUILD)/libpinstage.map: shim/lib/table.h shim/lib/map.awk Makefile | $(BUILD)/
	$(call quiet,GEN)$(CC) -E -P -x c -DPINSTAGE_TABLE_ONLY $(ALL_CPPFLAGS) -MF $@.d -MT $@ shim/lib/table.h | awk -f shim/lib/map.awk > $@.tmp
	@mv $@.tmp $@

$(BUILD)/obj/shim/lib/%.o: ALL_CPPFLAGS += $(HOOK_CPPFLAGS)
$(BUILD)/obj/shim/command/%.o: ALL_CPPFLAGS += $(COMMAND_CFLAGS)
ifneq ($(filter x86_64-% amd64-%,$(shell $(CC) -dumpmachine)),)
$(BUILD)/obj/shim/keeper/digest_avx2.o: ALL_CFLAGS += -mavx2
endif
$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -c -o $@ $<

%/:
	@mkdir -p $@


# Unit tests and storms say in their head what they are linked with: the comment
# "links: shim/lib/areas.c shim/common/proto.c".
TEST_LIB_SRC := tests/lib/testlib.c tests/lib/alike.c
TEST_TOOL_SRC := $(filter-out $(TEST_LIB_SRC),$(wildcard tests/lib/*.c))
PRELOAD_SRC := $(wildcard tests/preload/*.c)
CRASH_SRC := $(wildcard tests/crash/*.c)
LINKED_SRC := $(wildcard tests/unit/*.c tests/storm/*.c)
links_of = $(shell sed -n '1,40s,.*links: *\(.*[^ ]\) *\*/.*,\1,p' $(1))
test_program = $(patsubst tests/%.c,$(BUILD)/tests/%,$(1))

# Programs that get the shim preloaded stand for other people's: no sanitizers in them.
FOREIGN := $(call objects,$(TEST_LIB_SRC) $(TEST_TOOL_SRC) $(PRELOAD_SRC) $(CRASH_SRC))
$(FOREIGN): SANITIZERS =
$(FOREIGN): ALL_CPPFLAGS += -Itests/lib
$(call objects,$(LINKED_SRC)): ALL_CPPFLAGS += -Itests/lib

$(call test_program,$(PRELOAD_SRC) $(TEST_TOOL_SRC) $(CRASH_SRC)): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o \
		$(call objects,$(TEST_LIB_SRC))
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcmocka -luring

# The double of libibverbs, programs that are linked to it, and a plugin; what is
# preloaded to a keeper, and to a program beside the shim.
VERBS_SRC := tests/preload/verbs.c tests/preload/verbs_rereg.c
DOUBLE := $(BUILD)/tests/double/libibverbs.so.1
PLUGIN := $(BUILD)/tests/double/plugin.so
PRELOADED := $(patsubst %,$(BUILD)/tests/double/%.so,numbers inflight closes bynumber)
DOUBLE_OBJ := $(call objects,$(patsubst %,tests/double/%.c,libibverbs plugin ring reload numbers inflight closes bynumber))
$(DOUBLE_OBJ): SANITIZERS =
$(DOUBLE_OBJ): CFLAGS += -fvisibility=default -fsemantic-interposition -fno-lto
$(call objects,$(VERBS_SRC)): ALL_CPPFLAGS += -Itests/double

$(DOUBLE): $(call objects,tests/double/libibverbs.c) tests/double/libibverbs.map
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-soname,$(@F) \
		-Wl,--version-script=tests/double/libibverbs.map -o $@ $< -luring

$(PLUGIN): $(call objects,tests/double/plugin.c) $(DOUBLE)
	$(call quiet,LD)$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-rpath,'$$ORIGIN' -o $@ $^

# A program that is not linked to liburing, and opens a plugin that is.
RELOAD := $(BUILD)/tests/double/ring.so $(BUILD)/tests/double/reload

$(BUILD)/tests/double/ring.so: $(call objects,tests/double/ring.c)
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(CFLAGS) $(LDFLAGS) -shared -o $@ $^ -luring

$(BUILD)/tests/double/reload: $(call objects,tests/double/reload.c)
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -ldl

$(PRELOADED): $(BUILD)/tests/double/%.so: $(BUILD)/obj/tests/double/%.o
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(CFLAGS) $(LDFLAGS) -shared -o $@ $<

$(call test_program,$(VERBS_SRC)): $(DOUBLE)
$(call test_program,$(VERBS_SRC)): LDFLAGS += -Wl,-rpath,'$$ORIGIN/../double'

# What runs in the virtual machine, with the real libraries. late.c has to find them by itself.
RDMA_PROGRAMS := $(addprefix $(BUILD)/tests/rdma/,rdma late dax offender fill.so rereg.so)
RDMA_OBJ := $(call objects,$(wildcard tests/rdma/*.c))
$(RDMA_OBJ): SANITIZERS =
$(RDMA_OBJ): ALL_CPPFLAGS += -Itests/lib

$(BUILD)/tests/rdma/rdma: $(call objects,tests/rdma/rdma.c tests/rdma/pair.c $(TEST_LIB_SRC))
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcmocka -luring -lrdmacm -libverbs

$(BUILD)/tests/rdma/dax $(BUILD)/tests/rdma/offender: $(BUILD)/tests/rdma/%: $(BUILD)/obj/tests/rdma/%.o
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -libverbs

$(BUILD)/tests/rdma/late: $(call objects,tests/rdma/late.c $(TEST_LIB_SRC))
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcmocka -luring -ldl

$(BUILD)/tests/rdma/fill.so $(BUILD)/tests/rdma/rereg.so: $(BUILD)/tests/rdma/%.so: $(BUILD)/obj/tests/rdma/%.o
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(CFLAGS) $(LDFLAGS) -shared -o $@ $^ $(if $(filter %/rereg.so,$@),-libverbs)

# The model test's program, which stands for other people's, too.
MODEL := $(BUILD)/tests/model/model
MODEL_OBJ := $(call objects,$(wildcard tests/model/*.c))
$(MODEL_OBJ): SANITIZERS =
$(MODEL): $(MODEL_OBJ)
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -luring -pthread

define LINKED_TEST
$(call test_program,$(1)): $(call objects,$(1) $(call links_of,$(1)))
	@mkdir -p $$(@D)
	$$(call quiet,LD)$$(CC) $$(ALL_LDFLAGS) -o $$@ $$^ -pthread -lcmocka
endef
$(foreach src,$(LINKED_SRC),$(eval $(call LINKED_TEST,$(src))))

# Foreign programs, too: a test of speed preloads the shim under some of them.
BENCH := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/bench/*.c))
$(BENCH): $(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.o
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -luring -lxxhash
$(call objects,$(wildcard tests/bench/*.c)): SANITIZERS =

# What is preloaded where the library is not.
EMPTY := $(BUILD)/tests/bench/empty.so
$(EMPTY): Makefile
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(CFLAGS) $(LDFLAGS) -shared -o $@ -x c /dev/null

TEST_PROGRAMS := $(call test_program,$(PRELOAD_SRC) $(TEST_TOOL_SRC) $(CRASH_SRC) $(LINKED_SRC)) $(PLUGIN) $(RELOAD) $(PRELOADED) \
	$(MODEL) $(RDMA_PROGRAMS) $(BENCH)

tests: all $(TEST_PROGRAMS)

# What a test has to know about the build that it tests.
RUN_TESTS = BUILD='$(abspath $(BUILD))' CC='$(CC)' SANITIZE='$(SANITIZE)' tests/run

demo:
	@$(call deps,build demo)
	@$(MAKE) --no-print-directory all
	@BUILD='$(abspath $(BUILD))' tests/demo

check:
	@$(call deps,build demo check)
	@$(MAKE) --no-print-directory tests WERROR=1
	@$(RUN_TESTS) $(TESTFLAGS)

# The tests in the virtual machine; they are part of `check`.
check-vm:
	@$(call deps,build demo check)
	@$(MAKE) --no-print-directory tests WERROR=1
	@$(RUN_TESTS) -f 'script vm/' $(TESTFLAGS)

# A shell in that machine: docs/rdma.md.
vm-shell:
	@$(call deps,build demo check)
	@$(MAKE) --no-print-directory tests
	@tests/vm/shell $(VMFLAGS)

# For the inner loop: ext4 and tmpfs only, no valgrind, and not the scripts that say "quick: no" (other
# compilers, the package, what tests/crash/ breaks, the virtual machine).
check-quick:
	@$(call deps,build demo check)
	@$(MAKE) --no-print-directory tests
	@$(RUN_TESTS) --quick $(TESTFLAGS)

bench:
	@$(call deps,build demo bench)
	@$(MAKE) --no-print-directory all $(BENCH) $(EMPTY)
	@BUILD='$(abspath $(BUILD))' tests/bench/run $(BENCHFLAGS)

# The storm through everything, on every file system and as an unprivileged user, SOAK seconds each;
# then what tests/crash/ breaks, power cuts for that long on each of two, and the model test with new seeds.
SOAK ?= 600
soak:
	@$(call deps,build demo check)
	@$(MAKE) --no-print-directory tests
	@STORM_SECONDS=$(SOAK) $(RUN_TESTS) -j 1 -f preload/storm
	@STORM_SECONDS=$(SOAK) STORM_KILLS=1000 $(RUN_TESTS) -f crash/
	@$(RUN_TESTS) -f preload/ends
	@$(RUN_TESTS) -f environment/
	@$(RUN_TESTS) -f vm/disks
	@STORM_SECONDS=$(SOAK) $(RUN_TESTS) -f vm/power
	@STORM_SECONDS=$(SOAK) MODEL_SECONDS=$(SOAK) $(RUN_TESTS) -f 'script model/run/seeds'

C_FILES = $(shell git ls-files '*.c' '*.h' 2>/dev/null || find * -name '*.[ch]')
SCRIPTS = $(shell grep -lrIE '^\#! ?/(usr/)?bin/(env )?(ba)?sh' .ci tests debian) $(wildcard tests/lib/*.sh)
MAN_PAGES = $(wildcard man/*.[1378])

lint:
	@$(call deps,build check)
	clang-format --dry-run -Werror $(C_FILES)
	cppcheck $(addprefix --include=,$(firstword $(wildcard /usr/include/*/sys/queue.h \
		/usr/include/sys/queue.h))) --quiet --error-exitcode=1 --inline-suppr --enable=warning,portability \
		--suppressions-list=tests/lib/cppcheck.suppressions -j2 \
		-D__x86_64__ -D__LP64__ -D_GNU_SOURCE -Iinclude -Ishim -Itests/lib $(filter %.c,$(C_FILES))
	shellcheck -x -P SCRIPTDIR $(SCRIPTS)
	$(if $(MAN_PAGES),mandoc -T lint -W warning $(MAN_PAGES))
	man/update --check

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(libdir)/pinstage $(DESTDIR)$(pkgconfigdir) \
		$(DESTDIR)$(PREFIX)/include $(DESTDIR)$(completiondir)
	install -m 755 $(BUILD)/pinstage $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(BUILD)/pinstage-keeper $(DESTDIR)$(libdir)/pinstage/
	install -m 644 $(BUILD)/libpinstage.so $(DESTDIR)$(libdir)/pinstage/
	install -m 644 include/pinstage.h $(DESTDIR)$(PREFIX)/include/
	install -m 644 completions/pinstage $(DESTDIR)$(completiondir)/
	sed -e 's,@PREFIX@,$(PREFIX),g' -e 's,@LIBDIR@,$(libdir),g' -e 's,@VERSION@,$(VERSION),g' pkgconfig/pinstage.pc.in \
		> $(DESTDIR)$(pkgconfigdir)/pinstage.pc
	chmod 644 $(DESTDIR)$(pkgconfigdir)/pinstage.pc
	for manager in system user; do \
		install -d $(DESTDIR)$(unitdir)/$$manager && \
		install -m 644 systemd/$$manager/pinstage-keeper.socket $(DESTDIR)$(unitdir)/$$manager/ && \
		sed 's,@LIBDIR@,$(libdir),g' systemd/$$manager/pinstage-keeper.service.in \
			> $(DESTDIR)$(unitdir)/$$manager/pinstage-keeper.service && \
		chmod 644 $(DESTDIR)$(unitdir)/$$manager/pinstage-keeper.service || exit 1; \
	done
	for page in $(MAN_PAGES); do \
		install -D -m 644 $$page $(DESTDIR)$(mandir)/man$${page##*.}/$${page##*/} || exit 1; \
	done

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/pinstage $(DESTDIR)$(PREFIX)/include/pinstage.h \
		$(DESTDIR)$(completiondir)/pinstage \
		$(DESTDIR)$(pkgconfigdir)/pinstage.pc $(DESTDIR)$(libdir)/pinstage/pinstage-keeper \
		$(DESTDIR)$(libdir)/pinstage/libpinstage.so
	-rmdir $(DESTDIR)$(libdir)/pinstage
	rm -f $(foreach m,system user,$(DESTDIR)$(unitdir)/$(m)/pinstage-keeper.socket \
		$(DESTDIR)$(unitdir)/$(m)/pinstage-keeper.service)
	for page in $(MAN_PAGES); do rm -f $(DESTDIR)$(mandir)/man$${page##*.}/$${page##*/}; done

clean:
	rm -rf build

help:
	@echo 'make                        the library, the keeper and the command, in build/'
	@echo 'make demo                   the main job, shown with fio'
	@echo 'make check                  every test; TESTFLAGS="-f PATTERN" for some, V=1 for more'
	@echo 'make check-quick            the tests that a change of one line needs'
	@echo 'make bench                  what the library costs, side by side'
	@echo 'make soak SOAK=600          the storm, that many seconds on each file system'
	@echo 'make check-vm               RDMA, power cuts and the like, in a virtual machine (part of check)'
	@echo 'make vm-shell               a shell in it; VMFLAGS="--fs xfs" and the like'
	@echo 'make lint                   formatting, static analysis, scripts, manual pages'
	@echo 'make install, uninstall     below PREFIX (now $(PREFIX)), in DESTDIR if given'
	@echo 'make clean'
	@echo
	@echo 'SANITIZE=address,undefined  build and test with sanitizers, in build/sanitize'
	@echo 'V=1                         whole command lines, and what tests print'
	@echo 'WERROR=1                    warnings are errors'
	@echo 'DEPS=no                     nothing is installed or downloaded: no network, no package manager'
	@echo 'BUILD=DIR                   another directory for what is built'
	@echo 'CC, CFLAGS, CPPFLAGS, LDFLAGS as usual'

.PHONY: all tests demo check check-quick bench soak check-vm vm-shell lint install uninstall clean help
.DELETE_ON_ERROR:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
