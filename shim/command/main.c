/* SPDX-License-Identifier: MIT */
/* pinstage: the command. */
#include "command/command.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/util.h"

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
	const char *summary;
} commands[] = {
	{ "run", run_main,
	  "run a program with staging, and wait until its data is in its files" },
	{ "status", status_main, "show what is staged" },
	{ "sync", sync_main, "carry what is staged to the disk now" },
	{ "report", report_main, "say who pins what, from logs, and what to do about it" },
	{ "release", release_main, "let go of a file system, so that it can be unmounted" },
	{ "doctor", doctor_main, "say what this machine, or a program, does" },
	{ "rescue", rescue_main, "copy elsewhere what cannot be written to its file" },
};

void complain(const char *who, const char *fmt, ...)
{
	char line[8192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "pinstage%s%s: %s\n", *who ? " " : "", who, line);
}

int output_complete(const char *who)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	complain(who, "standard output: %m");
	return EXIT_OWN;
}

int print_and_check(const char *text)
{
	fputs(text, stdout);
	return output_complete("");
}

int print_version(void)
{
	return print_and_check("pinstage " PINSTAGE_VERSION "\n");
}

int wrong_option(char **argv, int c)
{
	const char *text = argv[optind - 1];

	if (c == ':')
		complain(argv[0], "%s needs a value; see pinstage %s --help", text, argv[0]);
	else if (text[0] == '-' && text[1] == '-')
		complain(argv[0], "unknown or ambiguous option '%s'; see pinstage %s --help",
			 text, argv[0]);
	else
		complain(argv[0], "unknown option '-%c'; see pinstage %s --help", optopt,
			 argv[0]);
	return EXIT_OWN;
}

static int help(void)
{
	puts("usage: pinstage COMMAND [OPTION...] [ARGUMENT...]\n"
	     "       pinstage run [OPTION...] [--] PROGRAM [ARGUMENT...]\n"
	     "\n"
	     "Keeps programs working that pin file-backed memory for a device.\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-8s %s\n", commands[i].name, commands[i].summary);
	puts("\n'pinstage COMMAND --help' says more. See also pinstage(1) and pinstage(7).");
	return output_complete("");
}

/* If a standard descriptor is closed, none of ours shall take its place. What is opened here
 * does not reach the program, which finds closed what was closed. */
static void occupy_standard_descriptors(void)
{
	int fd;

	while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0 && fd <= STDERR_FILENO)
		;
	if (fd > STDERR_FILENO)
		close(fd);
}

int main(int argc, char **argv)
{
	occupy_standard_descriptors();
	if (argc < 2) {
		complain("", "no command given; see pinstage --help");
		return EXIT_OWN;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help"))
		return help();
	if (!strcmp(argv[1], "--version"))
		return print_version();
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].main(argc - 1, argv + 1);
	complain("", "unknown %s '%s'; see pinstage --help",
		 argv[1][0] == '-' ? "option" : "command", argv[1]);
	return EXIT_OWN;
}
