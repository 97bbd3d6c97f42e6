// The rate at which this machine's CPU reads memory: the ceiling of problems that read much for
// each product, as measured.
#pragma once

namespace qkv::bench {

// Bytes a second, all threads: the fastest of 7 reads of 512 MiB, which no cache holds. The
// fastest, since it is a ceiling, and other programs only lower it.
double host_read_rate();

}  // namespace qkv::bench
