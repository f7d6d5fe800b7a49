# SPDX-License-Identifier: MIT
# The preprocessed table on standard input, the linker's version script on standard output. One
# anonymous node: a named one would take libc's names out of interposition.
BEGIN { RS = ";"; print "{\n\tglobal:" }
$1 == "export" { print "\t\t" $2 ";" }
END { print "\tlocal:\n\t\t*;\n};" }
