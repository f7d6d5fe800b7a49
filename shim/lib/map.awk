# SPDX-License-Identifier: MIT
# The preprocessed table on standard input, the linker's version script on standard output. Only
# what exists with several ABIs is in a node: a node takes its names out of interposition for
# references to any other version, and an anonymous node cannot stand beside it. The rest is
# exported by its visibility, without a version, and listed as comments.
BEGIN { RS = ";" }
$1 == "export" && $2 == "IBVERBS_1_1" { node = node "\t\t" $3 ";\n"; next }
$1 == "export" { rest = rest "#\t" $3 "\n" }
END { printf "IBVERBS_1.1 {\n\tglobal:\n%s};\n%s", node, rest }
