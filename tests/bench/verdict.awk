# SPDX-License-Identifier: MIT
# From the measurements ("question variant value") and the questions: the table on standard output,
# and the same as JSON in the file `json`.

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

function figure(key,    n, m) {
	n = sorted(key)
	m = median(key)
	return sprintf("%s (%s-%s)", short(m), short(v[1]), short(v[n]))
}

function short(x) {
	return x >= 100 ? sprintf("%.0f", x) : x >= 1 ? sprintf("%.2f", x) : sprintf("%.4f", x)
}

function holds(bound, quotient, difference, value,    limit) {
	limit = bound
	gsub(/[^0-9.]/, "", limit)
	if (bound ~ /^\+/)
		return difference <= limit + 0
	if (bound ~ /abs/)
		return value <= limit + 0
	return bound ~ /^>/ ? quotient >= limit + 0 : quotient <= limit + 0
}

FNR == NR {
	values[$1, $2] = values[$1, $2] " " $3
	next
}

FNR == 1 {
	FS = "|"
	$0 = $0
	printf "%-17s %-5s %-28s %-28s %9s  %-11s %s\n", "question", "unit", "median (spread)",
		"compared with", "quotient", "bound", "verdict"
	printf "{\"kernel\":\"%s\",\"cpus\":%d,\"file_system\":\"%s\",\"rows\":[", kernel, cpus, fs > json
}

/^#/ || NF < 6 { next }

{
	q = trim($1); var = trim($3); ref = trim($4); bound = trim($5)
	if (!((q, var) in values) || (ref != "-" && !((q, ref) in values)))
		next
	m = median(q SUBSEP var)
	r = ref == "-" ? 0 : median(q SUBSEP ref)
	x = r ? m / r : 0
	ok = holds(bound, x, m - r, m)
	missed += !ok
	printf "%-17s %-5s %-28s %-28s %9s  %-11s %s\n", q, trim($2), var ": " figure(q SUBSEP var),
		ref == "-" ? "" : ref ": " figure(q SUBSEP ref), r ? sprintf("%.3f", x) : "", bound,
		ok ? "met" : "MISSED"
	printf "%s{\"question\":\"%s\",\"text\":\"%s\",\"unit\":\"%s\",\"variant\":\"%s\",\"median\":%.6g,", rows++ ? "," : "",
		q, trim($6), trim($2), var, m > json
	printf "\"compared_with\":\"%s\",\"reference\":%.6g,\"quotient\":%.6g,\"bound\":\"%s\",\"met\":%s}", ref, r, x, bound,
		ok ? "true" : "false" > json
}

END {
	printf "]}\n" > json
	printf "%d questions, %d missed\n", rows, missed
}
