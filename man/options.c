/* SPDX-License-Identifier: MIT */
/* Prints the tables of options as mdoc(7), for man/update: "options" as `pinstage run` has
 * them, or "environment" as the library reads them. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "command/settings.h"

/* mdoc has a line for each sentence, and no line may begin with a dot. */
static void print_text(const char *text)
{
	for (; *text; text++) {
		putchar(*text);
		if (strchr(".:", *text) && text[1] == ' ' && isupper((unsigned char)text[2])) {
			putchar('\n');
			text++;
		}
	}
	putchar('\n');
}

static void print_row(const struct option_row *row, int environment)
{
	if (environment)
		printf(".It Ev %s\n", row->variable);
	else
		printf(".It Fl Fl %s Ar %s\n", row->option, row->arg);
	print_text(row->help);
	if (row->def)
		printf("Default: %s.\n", row->def);
	if (environment)
		printf("Option of\n.Xr pinstage 1 :\n.Fl Fl %s .\n", row->option);
	else if (row->variable)
		printf("Variable:\n.Ev %s .\n", row->variable);
}

int main(int argc, char **argv)
{
	const int environment = argc == 2 && !strcmp(argv[1], "environment");

	if (argc != 2 || (!environment && strcmp(argv[1], "options") != 0)) {
		fputs("usage: options options | environment\n", stderr);
		return 2;
	}
	for (size_t i = 0; i < option_count; i++)
		print_row(&option_table[i], environment);
	for (size_t i = 0; i < run_option_count && !environment; i++)
		print_row(&run_option_table[i], environment);
	return 0;
}
