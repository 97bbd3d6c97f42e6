// The rate at which this machine's CPU reads memory: the ceiling of problems that read much for
// each product, as measured.
#pragma once

namespace qkv::bench {

// Bytes a second, all threads: the median of 7 reads of 512 MiB, which no cache holds.
double host_read_rate();

}  // namespace qkv::bench
