# Throughput over sequence length from a result file of `attention_bench --tsv`; see plot.sh, which sets
#   file     the .tsv         out    the .svg            device  cpu or cuda
#   types    "f32 bf16"       names  "qkv unfused ..."   machine what it ran on
#   shape    "head dim 128, 8 heads"                   lengths "512 1024 ..."   ceiling what it is
pixels = words(types) == 1 ? 760.0 : 480.0 * words(types)
set terminal svg size pixels,500 dynamic enhanced font "Helvetica,13" background "#ffffff"
set output out

# Columns of one implementation, type and mask: length, TFLOP/s.
rows(name, type, mask) = sprintf("< awk -F '\\t' '$1 == \"%s\" && $2 == \"%s\" && $3 == \"%s\" && $6 == \"%s\" \
  { print $11, $13, ($16 > 0 ? $13 * 100 / $16 : \"NaN\") }' '%s'", name, device, type, mask, file)

# Below 1 TFLOP/s the axis counts GFLOP/s.
highest = real(system(sprintf("awk -F '\\t' '$2 == \"%s\" && $13 > m { m = $13 } END { print m + 0 }' '%s'", device, file)))
unit = highest < 1 ? "GFLOP/s" : "TFLOP/s"
scale = highest < 1 ? 1000.0 : 1.0

# qkv is blue, the unfused baseline orange, other kernels green and purple; causal is dashed with open points.
colour(n) = word("#0b5fa5 #c8641b #2e8b57 #7b4fa3 #8a6d3b", n)
set datafile missing "NaN"
set style line 100 lc rgb "#d9d9d9" lw 1
set grid ytics ls 100
set border 3 lc rgb "#606060"
set tics nomirror out tc rgb "#404040"
set logscale x 2
set xrange [word(lengths, 1) / 1.15:word(lengths, words(lengths)) * 1.15]
set xtics ()
do for [i = 1:words(lengths)] { set xtics add (word(lengths, i) word(lengths, i) + 0) }
set xlabel "sequence length" offset 0,0.3 tc rgb "#404040"
set yrange [0:*]

set multiplot title "Forward attention, ".shape."\n{/*0.85 ".machine."}" font ",15" offset 0,-0.4
left = 72 / pixels; gap = 62 / pixels; right = 0.985
width = (right - left - gap * (words(types) - 1)) / words(types)
set bmargin at screen 0.27
set tmargin at screen 0.82
unset key
do for [t = 1:words(types)] {
  type = word(types, t)
  set lmargin at screen left + (t - 1) * (width + gap)
  set rmargin at screen left + (t - 1) * (width + gap) + width
  set title type tc rgb "#202020" offset 0,-0.6
  set ylabel (t == 1 ? unit : "") offset 1.2 tc rgb "#404040"
  plot \
    rows("qkv", type, "full") using 1:($3 * scale) with lines lw 1.5 dt 3 lc rgb "#707070", \
    for [n = 1:words(names)] rows(word(names, n), type, "full") using 1:($2 * scale) \
      with linespoints lw 2.2 pt 7 ps 0.7 lc rgb colour(n), \
    for [n = 1:words(names)] rows(word(names, n), type, "causal") using 1:($2 * scale) \
      with linespoints lw 2.2 dt (8,5) pt 6 ps 0.7 lc rgb colour(n)
}

# One legend for all panels, in an empty plot below them.
set lmargin at screen 0.03
set rmargin at screen 0.99
set bmargin at screen 0.02
set tmargin at screen 0.15
unset border
unset tics
unset grid
unset title
unset xlabel
unset ylabel
set key center center horizontal reverse Left samplen 3 tc rgb "#202020"
set yrange [0:1]
plot \
  for [n = 1:words(names)] NaN with linespoints lw 2.2 pt 7 ps 0.7 lc rgb colour(n) \
    title word(names, n) noenhanced, \
  for [n = 1:words(names)] NaN with linespoints lw 2.2 dt (8,5) pt 6 ps 0.7 lc rgb colour(n) \
    title word(names, n).", causal" noenhanced, \
  NaN with lines lw 1.5 dt 3 lc rgb "#707070" title ceiling
unset multiplot
