# SPDX-License-Identifier: MIT
# From the measurements ("question variant value") and the questions: the table on standard output,
# and the same as JSON in the file `json`. `asked`: the programs that were run, " hooks whole "; `cut`:
# those of them that did not end within their time, " fio(110s) ".

function trim(s) {
	gsub(/^[ \t]+|[ \t]+$/, "", s)
	return s
}

function sorted(key,    n, i, j, t) {
	n = split(values[key], v, " ")
	for (i = 2; i <= n; i++)
		for (j = i; j > 1 && v[j] + 0 < v[j - 1] + 0; j--) {
			t = v[j]; v[j] = v[j - 1]; v[j - 1] = t
		}
	return n
}

function median(key,    n) {
	n = sorted(key)
	return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}

# What is measured in turn is compared in turn: the median of the differences.
function difference(key, ref,    n, i, w) {
	n = split(values[key], v, " ")
	if (split(values[ref], w, " ") != n)
		return median(key) - median(ref)
	for (i = 1; i <= n; i++)
		values["difference"] = (i > 1 ? values["difference"] " " : "") v[i] - w[i]
	return median("difference")
}

function figure(key,    n, m) {
	n = sorted(key)
	m = median(key)
	return sprintf("%s (%s-%s)", short(m), short(v[1]), short(v[n]))
}

function short(x) {
	return x >= 100 ? sprintf("%.0f", x) : x >= 1 ? sprintf("%.2f", x) : sprintf("%.4f", x)
}

# What a bound allows besides the quotient, "+ scan" or "+ 3 trips": so many times the median of that
# question's first variant in the same run; -1: there is none.
function besides(bound,    part, name) {
	if (!match(bound, /\+ [0-9]* ?[a-z]+$/))
		return 0
	split(substr(bound, RSTART + 2), part, " ")
	name = part[2] == "" ? part[1] : part[2]
	name = name ~ /^trip/ ? "trip" SUBSEP "keeper" : name SUBSEP "staged"
	return name in values ? median(name) * (part[2] == "" ? 1 : part[1]) : -1
}

function holds(bound, quotient, added, value, reference,    limit) {
	limit = bound
	sub(/ x \+.*/, "", limit)
	gsub(/[^0-9.]/, "", limit)
	if (bound ~ /^\+/)
		return added <= limit + 0
	if (bound ~ /abs/)
		return value <= limit + 0
	if (bound ~ / x \+/)
		return value <= limit * reference + besides(bound)
	return bound ~ /^>/ ? quotient >= limit + 0 : quotient <= limit + 0
}

# A row of both; numbers that are not there are null.
function row(q, var, ref, bound, left, right, shown, verdict, m, r, x, added, met) {
	printf "%-17s %-5s %-28s %-28s %9s  %-18s %s\n", q, trim($2), left, right, shown, bound, verdict
	printf "%s{\"question\":\"%s\",\"text\":\"%s\",\"unit\":\"%s\",\"variant\":\"%s\",\"median\":%s,", rows++ ? "," : "",
		q, trim($6), trim($2), var, m > json
	printf "\"compared_with\":\"%s\",\"reference\":%s,\"quotient\":%s,\"difference\":%s,\"bound\":\"%s\",\"met\":%s}",
		ref, r, x, added, bound, met > json
}

# The measurements may be none at all, so that NR == FNR would hold for the questions, too.
FILENAME == ARGV[1] {
	values[$1, $2] = values[$1, $2] " " $3
	next
}

FNR == 1 {
	FS = "|"
	$0 = $0
	printf "%-17s %-5s %-28s %-28s %9s  %-18s %s\n", "question", "unit", "median (spread)",
		"compared with", "quotient", "bound", "verdict"
	printf "{\"kernel\":\"%s\",\"cpus\":%d,\"file_system\":\"%s\",\"rows\":[", kernel, cpus, fs > json
}

/^\[/ {
	program = trim($1)
	gsub(/[][]/, "", program)
	next
}

/^#/ || NF < 6 || index(asked, " " program " ") == 0 { next }

{
	q = trim($1); var = trim($3); ref = trim($4); bound = trim($5)
	left = var ": " (((q, var) in values) ? figure(q SUBSEP var) : "-")
	right = ref == "-" ? "" : ref ": " (((q, ref) in values) ? figure(q SUBSEP ref) : "-")
	if (!((q, var) in values) || (ref != "-" && !((q, ref) in values)) ||
	    besides(bound) < 0) {
		unknown++
		row(q, var, ref, bound, left, right, "", "no figure", "null", "null", "null", "null", "null")
		next
	}
	m = median(q SUBSEP var)
	r = ref == "-" ? 0 : median(q SUBSEP ref)
	x = r ? m / r : 0
	added = bound ~ /^\+/ ? difference(q SUBSEP var, q SUBSEP ref) : m - r
	ok = holds(bound, x, added, m, r)
	missed += !ok
	row(q, var, ref, bound, left, right, bound ~ /^\+/ ? sprintf("%+.2f", added) : r ? sprintf("%.3f", x) : "",
		ok ? "met" : "MISSED", sprintf("%.6g", m), sprintf("%.6g", r), sprintf("%.6g", x),
		sprintf("%.6g", added), ok ? "true" : "false")
}

END {
	gsub(/^ | $/, "", cut)
	printf "],\"cut\":\"%s\"}\n", cut > json
	printf "%d questions, %d missed, %d without a figure\n", rows, missed, unknown
	if (cut != "")
		printf "not ended within the time given: %s\n", cut
}
