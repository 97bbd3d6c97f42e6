# Result files of attention_bench and peers.py as one table: TFLOP/s of each implementation, a line for each problem.
#   awk -f table.awk RESULT.tsv...
BEGIN { FS = "\t" }
/^#/ || $1 == "implementation" { next }
{
  shape = "b" $7 ($8 == $9 ? "_h" $8 : "_hq" $8 "_hkv" $9) ($10 == $11 ? "_s" $10 : "_sq" $10 "_skv" $11)
  problem = $2 "/" $3 "/d" $4 ($4 == $5 ? "" : "_dv" $5) "/" $6 "/" shape ($17 == "" || $17 == "-" ? "" : "/" $17)
  if (!(problem in seen)) { seen[problem] = 1; problems[++problem_count] = problem }
  if (!($1 in column)) { column[$1] = 1; names[++name_count] = $1 }
  rate[problem, $1] = $13
}
function figure(rate) { return sprintf(rate >= 10 ? "%.1f" : rate >= 1 ? "%.2f" : rate >= 0.1 ? "%.3f" : "%.4f", rate) }
END {
  if (problem_count == 0) { print "no results"; exit }
  width = 0
  for (p = 1; p <= problem_count; ++p) if (length(problems[p]) > width) width = length(problems[p])
  line = sprintf("%-" width "s", "TFLOP/s")
  for (n = 1; n <= name_count; ++n) line = line sprintf("  %15s", names[n])
  print line
  for (p = 1; p <= problem_count; ++p) {
    line = sprintf("%-" width "s", problems[p])
    for (n = 1; n <= name_count; ++n) {
      known = (problems[p], names[n]) in rate
      line = line sprintf("  %15s", known ? figure(rate[problems[p], names[n]]) : "-")
    }
    print line
  }
}
