/* SPDX-License-Identifier: MIT */
/* What the subcommands of pinstage share. */
#ifndef PINSTAGE_COMMAND_H
#define PINSTAGE_COMMAND_H

/* As env(1), nice(1) and the shells have them. */
#define EXIT_OWN       125 /* pinstage itself failed, or was called wrongly */
#define EXIT_CANNOT    126 /* the program was found and cannot be executed */
#define EXIT_NOT_FOUND 127

/* Each gets its arguments from its own name on. */
int run_main(int argc, char **argv);
int status_main(int argc, char **argv);
int sync_main(int argc, char **argv);
int report_main(int argc, char **argv);
int release_main(int argc, char **argv);
int doctor_main(int argc, char **argv);
int rescue_main(int argc, char **argv);

/* One line on standard error: "pinstage WHO: ...". */
void complain(const char *who, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Says what getopt_long() with a leading ':' returned ':' or '?' for. Returns what to exit
 * with.
 */
int wrong_option(char **argv, int c);

/* What --version prints. Returns what to exit with. */
int print_version(void);

/* Prints text on standard output and finds out whether it got there. Returns what to exit with.
 */
int print_and_check(const char *text);
int output_complete(const char *who);

#endif
