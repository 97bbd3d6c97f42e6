/* qkv: fused attention for C and C++. This header is the whole C ABI; qkv.hpp wraps it for C++17.
 *
 * A query is scored against every key, the scores become weights, the weighted values come out:
 *
 *   S = scale * score(Q, K)          scaled dot product  q.k   or additive  w.tanh(q + k)
 *   S = softcap * tanh(S / softcap)  when softcap > 0
 *   S = S + bias - slope * |i + offset - j|
 *   S = -inf where key j is hidden from query i (length, causal, window, mask)
 *   soft:  P = softmax(S),  O = P V,        LSE = log(sum(exp(S)))
 *   hard:  j* = argmax(S),  O = V[j*],      LSE = S[j*]; lowest j on ties
 *   top-k: softmax over the k best keys alone; O and LSE over these; lowest j on ties
 *
 * Tensors have four axes in the logical order [batch, heads, seq, dim]; the memory layout (BSHD,
 * BHSD, packed QKV, ...) is a matter of strides, counted in elements. A query that sees no key, or
 * only keys that score -inf, gives O = 0, LSE = -inf, probabilities 0 and index -1. Results are
 * bit-identical from run to run.
 *
 * A first call, with scratch memory left to qkv:
 *
 *   qkv_attention_desc d;
 *   qkv_attention_desc_init(&d, sizeof d);
 *   d.q = ...; d.k = ...; d.v = ...; d.o = ...;      (a qkv_tensor each)
 *   d.flags = QKV_FLAG_ALLOW_ALLOCATION;             (else set workspace and workspace_size)
 *   if (qkv_attention(&d, NULL) != QKV_SUCCESS) puts(qkv_last_error());
 *
 * Arithmetic is fp32, whatever the element type; P is rounded to it at most once, O once. Range:
 * q.k, before the scale, S after each of its steps, and the sums of exp(S - max S) |V| over a
 * query's keys must be finite in fp32, or O is infinite or NaN: |V| up to FLT_MAX / s_kv always is.
 * Weights below 2^-126 of a row's best are 0, and on fp16 those below 2^-29 lose bits; so may
 * results that are subnormal. Where the processor multiplies bf16 itself, it takes bf16 numbers and
 * sums near 2^-126 for 0: values of V below 1e-36 are not exact then.
 *
 * NaN and infinity. In what a query sees they propagate as IEEE arithmetic says. Keys at or past a
 * sequence's length may hold anything. Keys that a causal mask, a window, the mask tensor or a bias
 * of -inf hides must have finite K and V: their weight is 0, and 0 times NaN or infinity is NaN.
 * What the bias holds where causal mask, window or mask tensor hide is not looked at.
 *
 * Tensors that share memory. Inputs may. Of an output, or of what the plan needs of the workspace,
 * no element may be another tensor's (QKV_INVALID_OVERLAP): judged by elements when a call runs, so
 * that an output may lie in the gaps of another tensor, as a slot of a buffer that K and V share.
 * One exception: o may stand exactly in the place of q, the same data and strides, Dv = Dqk. The
 * CPU and all CUDA kernels take that, but for simt_general where it would read q again after it has
 * written o: with a weights output, or Dv > 128 under soft selection. Where strides fit each other
 * so badly that a short search does not tell whether elements meet, the call is refused as well.
 *
 * A cache that grows, as in decoding, costs no new plan for each step: K and V are the whole cache,
 * Skv its capacity, and kv_lengths holds how much of it is filled; one plan, or one CUDA graph,
 * serves all steps, and the work is by the lengths. Without kv_lengths Skv is part of the plan: a
 * made plan refuses another one (QKV_INVALID_PLAN), and qkv_attention plans anew, which takes some
 * microseconds.
 *
 * Every function is thread-safe. None allocates device memory, synchronises or prints unless its
 * comment says so.
 *
 * Threads of the CPU are OpenMP's: at most as many as OpenMP would use for the calling thread
 * (OMP_NUM_THREADS, omp_set_num_threads; one inside of a parallel region, unless nested ones are
 * on), at most the descriptor's `threads`, and one where the problem is too small for more. A plan
 * never uses more than it was made for. OpenMP's other settings (binding, waiting) are the
 * program's. Results do not depend on any of this.
 *
 * After fork() the child computes on the CPU, also by plans of its parent, on one thread: OpenMP's
 * stay behind. A process must not fork while another of its threads is inside of a call. CUDA does
 * not survive fork(): a child of a process that has used it gets an error from every call on a
 * device.
 *
 * Two environment variables are read, each once, when first needed: QKV_VERBOSE, a list of words
 * (error, check, dispatch, exec, repro, all) says on stderr what calls do; QKV_DISABLE, a list of
 * kernels' names, keeps those out of all plans.
 *
 * A program built against 0.x runs with every later 0.x. Structs that begin with struct_size grow
 * at their end, release by release. A struct_size that an earlier release had is an older caller:
 * fields that it lacks have their defaults, results are written up to its size, and what that
 * release put up with still passes, but for calls whose results could be wrong. A longer one, of a
 * later release, is taken as long as all bytes behind today's fields are 0, up to 16 times today's
 * size; else the call needs a newer libqkv (QKV_INVALID_STRUCT_SIZE). Fill descriptors with their
 * _init function: it knows the defaults.
 */
#ifndef QKV_QKV_H_
#define QKV_QKV_H_

#include <stddef.h>
#include <stdint.h>

#define QKV_VERSION_MAJOR 0
#define QKV_VERSION_MINOR 1
#define QKV_VERSION_PATCH 0

#if defined(__GNUC__)
#define QKV_API __attribute__((visibility("default")))
#else
#define QKV_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Outcome of a call. The thousands are the class (qkv_status_class), the rest the detail. */
typedef int32_t qkv_status;
enum {
  QKV_SUCCESS = 0,

  QKV_INVALID_ARGUMENT = 1000,    /**< class: the call is wrong, whatever the machine */
  QKV_INVALID_NULL = 1001,        /**< a required pointer is null */
  QKV_INVALID_STRUCT_SIZE = 1002, /**< struct_size is not one that this library knows */
  QKV_INVALID_ENUM = 1003,        /**< a value outside its enumeration */
  QKV_INVALID_TYPE = 1004,        /**< element type not allowed for this tensor */
  QKV_INVALID_SHAPE = 1005, /**< extents that contradict each other, or an axis below its minimum: 1
                               of heads and dims, 0 of batch and seq */
  QKV_INVALID_STRIDE =
      1006, /**< innermost stride not 1, negative stride, or an output that overlaps itself */
  QKV_INVALID_SIZE = 1007, /**< an extent, stride or product that overflows 64-bit addressing */
  QKV_INVALID_VALUE =
      1008, /**< a number outside its range (scale, softcap, window, lengths, ...) */
  QKV_INVALID_DEVICE =
      1009, /**< tensors on different devices, or memory whose device is ambiguous */
  QKV_INVALID_ALIGNMENT = 1010,   /**< an address that is no multiple of the element size */
  QKV_INVALID_COMBINATION = 1011, /**< options that exclude each other */
  QKV_INVALID_PLAN = 1012,        /**< the descriptor does not match the plan that is to run it */
  QKV_INVALID_OVERLAP = 1013, /**< an output, or the workspace, has elements of another tensor */

  QKV_UNSUPPORTED = 2000,          /**< class: a valid call that this library cannot serve */
  QKV_UNSUPPORTED_RESERVED = 2001, /**< a field reserved for a later version is set */
  QKV_UNSUPPORTED_KERNEL = 2002,   /**< every kernel declined or is disabled; the message lists the
                                      reasons */
  QKV_UNSUPPORTED_BUILD = 2003,    /**< this build has no CUDA */

  QKV_RESOURCE = 3000,           /**< class: something ran out */
  QKV_RESOURCE_WORKSPACE = 3001, /**< workspace missing or too small; the message names the bytes */
  QKV_RESOURCE_OUT_OF_MEMORY = 3002, /**< an allocation failed */

  QKV_DEVICE_ERROR = 4000,      /**< class: the device or its driver said no */
  QKV_DEVICE_ERROR_NONE = 4001, /**< no such device on this machine */
  QKV_DEVICE_ERROR_CALL = 4002, /**< a CUDA call failed; the message carries CUDA's words. A kernel
                                   that CUDA will not load here is passed over instead, as long as
                                   there is another */
  QKV_DEVICE_ERROR_PRIOR =
      4003, /**< an error was pending before this call; it is reported, not cleared */

  QKV_INTERNAL = 5000 /**< class: a defect of qkv */
};

/** Element type of a tensor. */
typedef int32_t qkv_type;
enum {
  QKV_TYPE_NONE = 0, /**< the tensor is absent */
  QKV_TYPE_F32 = 1,
  QKV_TYPE_F16 = 2,
  QKV_TYPE_BF16 = 3,
  QKV_TYPE_F8_E4M3 = 4, /**< reserved */
  QKV_TYPE_F8_E5M2 = 5, /**< reserved */
  QKV_TYPE_I32 = 6,
  QKV_TYPE_I64 = 7,
  QKV_TYPE_BOOL = 8 /**< one byte; any non-zero value is true */
};

/** Where the tensors live, hence what computes. */
typedef int32_t qkv_device;
enum {
  QKV_DEVICE_AUTO = 0, /**< ask the pointers; pinned and managed memory are ambiguous and refused */
  QKV_DEVICE_CPU = 1,
  QKV_DEVICE_CUDA = 2 /**< device_index says which */
};

typedef int32_t qkv_score;
enum {
  QKV_SCORE_DOT = 0,     /**< q . k */
  QKV_SCORE_ADDITIVE = 1 /**< additive_weight . tanh(q + k). f16 and bf16 on tensor cores
                            (sm80_additive): tanh has an absolute error of at most 2^-8, 2^-11 in
                            the root of the mean square, for any q and k. On the CPU 2^-21; on plain
                            CUDA cores (simt_additive) 2^-21 max(1, |q| + |k|) in f32 and twice
                            that in f16 and bf16, or a few ulp of fp32 */
};

typedef int32_t qkv_selection;
enum {
  QKV_SELECT_SOFT = 0, /**< softmax over the visible keys */
  QKV_SELECT_HARD =
      1, /**< the best visible key alone; a NaN score beats every number, the lowest j wins ties */
  QKV_SELECT_TOP_K = 2 /**< softmax over the top_k best visible keys, ordered as hard selection's: a
                          NaN score beats every number (O and LSE are NaN then), the lowest j wins
                          ties. Keys that score -inf are never selected. With fewer keys than top_k,
                          all of them. Values of other keys do not count, whatever they are */
};

/** Keys that top-k selection takes at most. */
#define QKV_TOP_K_MAX 128

/** Which key lies on a query's diagonal: j = i + offset. Used by causal, window and ALiBi.
 * is_causal of ONNX's Attention (as of ONNX 1.23) is causal with: past_key given,
 * QKV_ALIGN_EXPLICIT and offset = its length, K and V holding past and new keys; nonpad_kv_seqlen
 * given, QKV_ALIGN_BOTTOM_RIGHT and that as kv_lengths; neither, QKV_ALIGN_TOP_LEFT. */
typedef int32_t qkv_alignment;
enum {
  QKV_ALIGN_BOTTOM_RIGHT =
      0, /**< offset = s_kv - s_q; the batch's own length instead of s_kv where given */
  QKV_ALIGN_TOP_LEFT = 1, /**< offset = 0 */
  QKV_ALIGN_EXPLICIT = 2  /**< offset = the descriptor's */
};

/** What the weights output holds: the stages of ONNX Attention's qk_matmul_output_mode with the
 * numbers that they have from ONNX 1.22 on (opsets 23 and later; before, 1 was after the mask and 2
 * after softcap). As there, the first two have a score for every key, also at or past a sequence's
 * length: for them alone K is read there, and may be NaN. Such keys hold -inf in
 * QKV_WEIGHTS_MASKED and 0 in QKV_WEIGHTS_PROBABILITIES. */
typedef int32_t qkv_weights_mode;
enum {
  QKV_WEIGHTS_SCORES = 0,       /**< scaled scores of all Skv keys, hidden ones included */
  QKV_WEIGHTS_SOFTCAPPED = 1,   /**< after softcap, hidden keys included */
  QKV_WEIGHTS_MASKED = 2,       /**< after bias, ALiBi and mask: -inf where hidden */
  QKV_WEIGHTS_PROBABILITIES = 3 /**< 0 where hidden; one-hot under hard selection, 0 but for the
                                   selected keys under top-k */
};

/** Bits of qkv_attention_desc.flags. */
enum {
  QKV_FLAG_ALLOW_ALLOCATION =
      1 /**< no workspace given: allocate it (CUDA: from the device's stream-ordered pool). Without
           this flag a call that needs workspace and has none fails: QKV_RESOURCE_WORKSPACE */
};

/** A strided view of memory that the caller owns: [batch, heads, seq, dim], strides in elements.
 *  The stride of an axis with extent 1 is ignored, and so are all strides of a tensor without
 *  elements. */
typedef struct qkv_tensor {
  void* data;
  qkv_type type;    /**< QKV_TYPE_NONE: absent */
  int32_t reserved; /**< 0 */
  int64_t shape[4];
  int64_t stride[4];
} qkv_tensor;

/** One attention problem. Fill with qkv_attention_desc_init, then set what differs from the
 * defaults. B batch, Hq and Hkv heads (Hkv divides Hq; head h reads K and V of head h / (Hq /
 * Hkv)), Sq and Skv lengths, Dqk and Dv widths.
 *
 * "Broadcast over" axes: there an extent of 1 stands for the whole axis. An extent counts on the
 * axis where it stands, whatever its number: a mask of [B, 1, 1, Skv] hides keys of a batch, one of
 * [1, 1, Sq, Skv] hides pairs alike in all batches and heads. Stride 0 repeats any axis of an
 * input.
 *
 * A setting that would have no effect is refused (QKV_INVALID_COMBINATION): scale without
 * scale_set, offset without QKV_ALIGN_EXPLICIT, weights_mode without weights, top_k without
 * QKV_SELECT_TOP_K. 0.1.0 let the first three pass, and a descriptor of its size still may. */
typedef struct qkv_attention_desc {
  size_t struct_size; /**< sizeof(qkv_attention_desc) as the caller compiled it */

  qkv_device device;    /**< default QKV_DEVICE_AUTO */
  int32_t device_index; /**< CUDA device; under AUTO taken from the pointers */

  qkv_score score;         /**< default QKV_SCORE_DOT */
  qkv_selection selection; /**< default QKV_SELECT_SOFT */

  qkv_tensor q; /**< [B, Hq, Sq, Dqk]   f32, f16 or bf16; k, v and o have the same type; stride of
                   dim is 1. f32 on tensor cores (sm80_tf32x3): elements of q and k below 2^-102
                   count with fewer bits, 11 below 2^-114 */
  qkv_tensor k; /**< [B, Hkv, Skv, Dqk] no extent broadcasts, stride 0 does */
  qkv_tensor v; /**< [B, Hkv, Skv, Dv]  as k */

  qkv_tensor o;       /**< [B, Hq, Sq, Dv]  output; no two elements may share an address: strides
                         nest, each longer than what the shorter ones reach; may stand in q's
                         place, see above */
  qkv_tensor lse;     /**< [B, Hq, Sq, 1]   optional output, f32, natural logarithm */
  qkv_tensor index;   /**< [B, Hq, Sq, 1]   optional output of hard selection, i32 or i64; of top-k
                         selection [B, Hq, Sq, top_k], best first, -1 behind the last key there is;
                         stride of top_k is 1 */
  qkv_tensor weights; /**< [B, Hq, Sq, Skv] optional output, f32 or the type of q */
  qkv_weights_mode weights_mode; /**< default QKV_WEIGHTS_PROBABILITIES; another needs weights */

  int32_t scale_set; /**< 0: scale is 1/sqrt(Dqk) for dot scores, 1 for additive ones */
  float scale;       /**< 0, or of magnitude 2^-126 to 2^127; 0 unless scale_set is not 0 */
  /** 2^-100 to 2^100, scale / softcap 0 or of magnitude 2^-126 to 2^127; 0: none. With 16-bit types
   * one of up to 128 may add an error of 2^-19 softcap to a score. */
  float softcap;

  int32_t causal;          /**< not 0: key j is hidden from query i unless j <= i + offset */
  qkv_alignment alignment; /**< default QKV_ALIGN_BOTTOM_RIGHT */
  int32_t reserved0;   /**< the mark of qkv_attention_desc_init: leave it; a descriptor without it,
                          as a zeroed one, is refused */
  int64_t offset;      /**< of the diagonal; 0 unless alignment is QKV_ALIGN_EXPLICIT */
  int64_t window_left; /**< hidden unless j >= i + offset - window_left; -1 (default): unbounded;
                           like offset at most 2^60 */
  int64_t
      window_right; /**< hidden unless j <= i + offset + window_right; -1 (default): unbounded */

  qkv_tensor mask; /**< [B, Hq, Sq, Skv] optional, bool: false hides the key. Broadcast over batch,
                      heads, queries and keys */
  qkv_tensor bias; /**< [B, Hq, Sq, Skv] optional, f32 or the type of q, added to the scores; no
                      bool: that is a mask. Broadcast over batch, heads, queries and keys */
  qkv_tensor alibi_slopes; /**< [B, Hq, 1, 1] optional, f32. [1, Hq, 1, 1]: a slope for each head,
                              alike in all batches. [1, 1, 1, 1]: one for all. [B, 1, 1, 1] would
                              be a slope for each batch: refused where Hq > 1, for it is mostly a
                              list of heads on the wrong axis; who means it passes
                              [B, Hq, 1, 1] with stride 0 over heads */
  qkv_tensor additive_weight; /**< [1, Hq, 1, Dqk] f32; required by QKV_SCORE_ADDITIVE.
                                 [1, 1, 1, Dqk]: alike for all heads */
  qkv_tensor kv_lengths; /**< [B, 1, 1, 1] optional, i32 or i64, no broadcast: keys at or past it
                            are hidden, and not read but for the first two weights modes. CPU: must
                            lie in 0..Skv. CUDA: read by the kernel, clamped to 0..Skv */

  /* Reserved for later versions; absent or 0 today, else QKV_UNSUPPORTED_RESERVED. */
  qkv_tensor q_lengths;   /**< [B, 1, 1, 1] query lengths */
  qkv_tensor q_offsets;   /**< [B + 1, 1, 1, 1] packed sequences: first query row of each */
  qkv_tensor kv_offsets;  /**< [B + 1, 1, 1, 1] packed sequences: first key row of each */
  qkv_tensor page_table;  /**< [B, 1, 1, pages] paged K and V */
  qkv_tensor q_segments;  /**< [B, 1, Sq, 1] a query sees keys of its own segment */
  qkv_tensor kv_segments; /**< [B, 1, Skv, 1] */
  qkv_tensor block_mask;  /**< [B, Hq, q blocks, kv blocks] */
  qkv_tensor sinks;       /**< [1, Hq, 1, 1] an extra score in the softmax sum */

  int64_t fixed_split_size; /**< > 0: batch invariance. The keys are cut at multiples of this many,
                               rounded up to the kernel's own step, and every query sums them up in
                               the same order whatever stands beside it: its results are the same
                               bits in every batch, among any other queries and whatever Skv its
                               kv_lengths leave unused, on one device, by one kernel. CUDA, 16-bit
                               types: at most 1024 splits of Skv, more are refused
                               (QKV_UNSUPPORTED_KERNEL). 0 (default): cut as is fastest */

  uint64_t flags;  /**< QKV_FLAG_* */
  void* workspace; /**< scratch that the tensors' device can use, 256-byte aligned, apart from all
                      tensors; null when the plan needs none */
  size_t workspace_size; /**< bytes at workspace */

  /* 0.1.0 ends here. */

  int32_t threads; /**< CPU: at most so many threads, and never more than OpenMP would use for the
                      caller at the time of the call; 0 (default): as many as that and as the
                      problem has work for. Results do not depend on it. CUDA: without effect */
  int32_t top_k; /**< keys of top-k selection, 1 to QKV_TOP_K_MAX; more than there are is allowed. 0
                    under any other selection */
  qkv_tensor top_scores; /**< [B, Hq, Sq, top_k] optional output of top-k selection, f32: S of the
                            keys in index, in its order, -inf behind the last; stride of top_k is
                            1 */
} qkv_attention_desc;

/** Answer of qkv_query, written up to the caller's struct_size. Texts are zero-terminated and cut
 * if too long. */
typedef struct qkv_query_result {
  size_t struct_size;    /**< set by the caller: sizeof(qkv_query_result) */
  int32_t supported;     /**< 1: qkv_attention would run it */
  int32_t reserved;      /**< 0 */
  size_t workspace_size; /**< bytes that a run needs */
  char kernel[64];       /**< the kernel that would run, "" if none */
  char reasons[1024];    /**< one line for each kernel that declined: "name: reason" */
} qkv_query_result;

/** Parts that one qkv_merge takes. */
#define QKV_MERGE_MAX_PARTS 32

/** Soft attention over all keys from parts over disjoint sets of keys (of a split, a cascade, the
 * ranks of a ring), each with its O and LSE:
 *
 *   LSE = log(sum_n exp(LSE_n)),   O = sum_n exp(LSE_n - LSE) O_n
 *
 * A part without keys (LSE_n = -inf) changes nothing, whatever its O holds; a single part with
 * keys comes out bit for bit. The sums of exp(LSE_n - max LSE) |O_n| must be finite in fp32. LSE
 * is fp32: where |LSE| is large, so is what its rounding changes of the weights, 2^-24 |LSE| of
 * each. Fill with qkv_merge_desc_init. */
typedef struct qkv_merge_desc {
  size_t struct_size;   /**< sizeof(qkv_merge_desc) as the caller compiled it */
  qkv_device device;    /**< default QKV_DEVICE_AUTO */
  int32_t device_index; /**< CUDA device; under AUTO taken from the pointers */

  int32_t parts;               /**< 1 to QKV_MERGE_MAX_PARTS */
  int32_t reserved;            /**< 0 */
  const qkv_tensor* o_parts;   /**< [B, H, S, Dv] each; f32, f16 or bf16, all of one type */
  const qkv_tensor* lse_parts; /**< [B, H, S, 1] each, f32, natural logarithm */

  qkv_tensor o;   /**< [B, H, S, Dv] output, f32, f16 or bf16; may be one of o_parts, the same in
                     address, type and strides; else it shares no element with another tensor */
  qkv_tensor lse; /**< [B, H, S, 1]  optional output, f32; may be one of lse_parts */
} qkv_merge_desc;

/** A projection, the product in front of attention and behind it: y = x W^T + bias, from inputs of
 * any width into one space. One product with W_q, W_k and W_v below each other gives packed Q, K
 * and V: attention reads them as views of y, nothing is transposed. Sums are fp32 (f32: true fp32,
 * no tf32), y is rounded once. B batches of S rows, either may be 0; widths In and Out, at least 1.
 * Rows or batches of x may have stride 0; on CUDA rows may not. Fill with qkv_project_desc_init. */
typedef struct qkv_project_desc {
  size_t struct_size;   /**< sizeof(qkv_project_desc) as the caller compiled it */
  qkv_device device;    /**< default QKV_DEVICE_AUTO */
  int32_t device_index; /**< CUDA device; under AUTO taken from the pointers */

  qkv_tensor x; /**< [B, 1, S, In]   f32, f16 or bf16; stride of dim is 1. Heads that stand side
                   by side, as in attention's O of [B, S, H, D] memory, are one axis of H D */
  qkv_tensor weight; /**< [1, 1, Out, In] the type of x; the stride of In is 1 ([out, in] memory, as
                        PyTorch's Linear) or that of Out is ([in, out] memory) */
  qkv_tensor bias;   /**< [1, 1, 1, Out]  optional, the type of x; stride 1 */
  qkv_tensor y;      /**< [B, H, S, D]    output with H D = Out, the type of x; stride of dim is 1;
                        column c of the product is dim c % D of head c / D. [B, 1, S, Out]: no heads.
                        Strides nest as of attention's o. Shares no element with another tensor */

  uint64_t flags;        /**< QKV_FLAG_* */
  void* workspace;       /**< as of qkv_attention_desc */
  size_t workspace_size; /**< bytes at workspace */
  int32_t threads;       /**< CPU: as of qkv_attention_desc */
  int32_t reserved0;     /**< the mark of qkv_project_desc_init: leave it */
} qkv_project_desc;

/** A multi-head attention layer from hidden states: projections of Q, K and V, attention of any
 * kind, and the projection of its output, as one plan.
 *
 *   Q = x_q W_q^T + bias_q,  K = x_kv W_k^T + bias_k,  V = x_kv W_v^T + bias_v
 *   y = attention(Q, K, V) W_o^T + bias_o
 *
 * Row h D + d of a weight belongs to head h, dim d. Q, K, V and attention's O are rounded to the
 * tensors' type, as if each step were a call of its own. E widths of hidden states; B, Hq, Hkv, Sq,
 * Skv, Dqk, Dv as in attention. Weights as in qkv_project_desc: by strides [out, in] or [in, out].
 * Fill with qkv_layer_desc_init. */
typedef struct qkv_layer_desc {
  size_t struct_size;   /**< sizeof(qkv_layer_desc) as the caller compiled it */
  qkv_device device;    /**< default QKV_DEVICE_AUTO */
  int32_t device_index; /**< CUDA device; under AUTO taken from the pointers */

  int32_t heads_q;  /**< Hq, at least 1 */
  int32_t heads_kv; /**< Hkv, divides Hq; 0 (default): Hq */

  qkv_tensor x_q;  /**< [B, 1, Sq, Eq]   f32, f16 or bf16; all others have this type */
  qkv_tensor x_kv; /**< [B, 1, Skv, Ekv] optional; absent: x_q (self-attention) */

  qkv_tensor w_q;      /**< [1, 1, Hq Dqk, Eq]   its rows give Dqk */
  qkv_tensor w_k;      /**< [1, 1, Hkv Dqk, Ekv] */
  qkv_tensor w_v;      /**< [1, 1, Hkv Dv, Ekv]  its rows give Dv */
  qkv_tensor bias_q;   /**< [1, 1, 1, Hq Dqk]  optional, and so are the others */
  qkv_tensor bias_k;   /**< [1, 1, 1, Hkv Dqk] */
  qkv_tensor bias_v;   /**< [1, 1, 1, Hkv Dv] */
  qkv_tensor w_qkv;    /**< [1, 1, (Hq + 2 Hkv) D, Eq] instead of w_q, w_k and w_v: their rows one
                          below the other, Dqk = Dv = D; for self-attention. One product then */
  qkv_tensor bias_qkv; /**< [1, 1, 1, (Hq + 2 Hkv) D] optional; with w_qkv alone */

  qkv_tensor w_o;    /**< [1, 1, Ey, Hq Dv] optional */
  qkv_tensor bias_o; /**< [1, 1, 1, Ey]     optional; with w_o alone */
  qkv_tensor y; /**< [B, 1, Sq, Ey]    output; without w_o [B, Hq, Sq, Dv], attention's O. Strides
                   nest as of attention's o. Shares no element with another tensor */

  /** Everything else of attention: score, selection, scale, softcap, masks, lengths, its outputs
   * lse, index, weights and top_scores; null: the defaults. From qkv_attention_desc_init; of its
   * fields q, k, v, o, device, device_index, flags, workspace, workspace_size and threads stay as
   * that left them. Read by the call, not kept. */
  const qkv_attention_desc* attention;

  uint64_t flags;        /**< QKV_FLAG_* */
  void* workspace;       /**< as of qkv_attention_desc; holds Q, K, V and O meanwhile */
  size_t workspace_size; /**< bytes at workspace */
  int32_t threads;       /**< CPU: as of qkv_attention_desc */
  int32_t reserved0;     /**< the mark of qkv_layer_desc_init: leave it */
} qkv_layer_desc;

/** Facts of a CUDA device, written up to the caller's struct_size. */
typedef struct qkv_device_facts {
  size_t struct_size;     /**< set by the caller: sizeof(qkv_device_facts) */
  int32_t compute_major;  /**< 9 for sm_90 */
  int32_t compute_minor;  /**< 0 for sm_90 */
  int32_t sm_count;       /**< streaming multiprocessors */
  int32_t smem_per_block; /**< bytes of shared memory that one block can opt in to */
  int64_t memory_bytes;   /**< device memory */
  int64_t l2_bytes;       /**< L2 cache */
  char name[128];         /**< as the driver says it */
} qkv_device_facts;

/** A plan: which kernel runs a problem of given shapes, strides, options, alignment and device, and
 * how. Immutable. */
typedef struct qkv_plan qkv_plan;

/** The library's version, major * 10000 + minor * 100 + patch. */
QKV_API int32_t qkv_version(void);

/** One JSON object: version, compiler, "cpu_engine" (what multiplies on the CPU, as it was built
 * with: "oneDNN 2.6"), "cuda" (the architectures that kernels are built for, or
 * null), "cuda_runtime" (the release of CUDA, as "13.0", or null: drivers from 580 on run 13.x,
 * from 525 on 12.x), kernels (those that this build has). Static storage. */
QKV_API const char* qkv_build_info(void);

/** The class of a status: its thousands (QKV_INVALID_ARGUMENT, QKV_UNSUPPORTED, ...), 0 for
 * success. */
QKV_API qkv_status qkv_status_class(qkv_status status);

/** The constant's name, "QKV_INVALID_STRIDE"; "unknown status" for a number that is none. Static
 * storage. */
QKV_API const char* qkv_status_name(qkv_status status);

/** Why the last failing call of this thread failed: tensor, field, what it holds, what is allowed.
 * "" before any failure. Successful calls leave it. Valid until the thread's next failing call. */
QKV_API const char* qkv_last_error(void);

/** How many CUDA devices this process can use; 0 without CUDA, driver or card. */
QKV_API int32_t qkv_device_count(void);

/** Fills facts of CUDA device `index`. QKV_DEVICE_ERROR_NONE if there is none such. */
QKV_API qkv_status qkv_device_query(int32_t index, qkv_device_facts* facts);

/** Writes the defaults, and the mark that calls look for, into the first struct_size bytes of
 * *desc; pass sizeof(qkv_attention_desc). */
QKV_API qkv_status qkv_attention_desc_init(qkv_attention_desc* desc, size_t struct_size);

/** Says whether, by which kernel and with what workspace a problem would run. An unsupported
 * problem is an answer, not an error; a malformed descriptor is an error. Data is not read, nor is
 * it asked which tensors share memory; null data pointers count as fully aligned memory, and under
 * QKV_DEVICE_AUTO as host memory. Loads nothing: where a kernel turns out later not to run on the
 * device (qkv_plan_create says so, and so does a query after a qkv_attention), another one takes
 * its place, with a workspace of its own. */
QKV_API qkv_status qkv_query(const qkv_attention_desc* desc, qkv_query_result* result);

/** Makes a plan for problems like *desc: same shapes, strides, types, options and device; on a CUDA
 * device at least the same pointer alignment, on the CPU any multiple of the element's size. A run
 * may have another scale, positive as the plan's or not, and softcap, 0 or above 128 (or below
 * scale / 2^125) as the plan's. On the CPU its runs use no more threads than it was made for, nor
 * than their own descriptor allows. Data is not read; null pointers as in qkv_query. The caller
 * destroys it. May load the kernel's module: call it outside of graph capture. */
QKV_API qkv_status qkv_plan_create(const qkv_attention_desc* desc, qkv_plan** plan);

/** Bytes of workspace that a run of the plan needs. */
QKV_API qkv_status qkv_plan_workspace_size(const qkv_plan* plan, size_t* bytes);

/** Prints the plan as text: kernel, tiles, grid, workspace, and why the other kernels declined. At
 * most `capacity` bytes are written to `text`, zero included; *length (may be null) is the full
 * length without the zero. */
QKV_API qkv_status qkv_plan_print(const qkv_plan* plan, char* text, size_t capacity,
                                  size_t* length);

/** Runs the plan on the descriptor's addresses. `stream` is a CUDA stream (0: the default stream);
 * the call returns when the work is queued. On the CPU it is ignored and the call returns when the
 * work is done. Safe to capture into a CUDA graph. */
QKV_API qkv_status qkv_plan_run(const qkv_plan* plan, const qkv_attention_desc* desc, void* stream);

/** Destroys a plan; null is allowed. Work already queued is not affected. */
QKV_API void qkv_plan_destroy(qkv_plan* plan);

/** Plan (cached by shape) and run in one call. */
QKV_API qkv_status qkv_attention(const qkv_attention_desc* desc, void* stream);

/** Writes the defaults into the first struct_size bytes of *desc; pass sizeof(qkv_merge_desc). */
QKV_API qkv_status qkv_merge_desc_init(qkv_merge_desc* desc, size_t struct_size);

/** Merges parts of one attention problem. Needs no workspace; `stream` as in qkv_plan_run. The
 * first call on a device may load the kernel's module: make it outside of graph capture. */
QKV_API qkv_status qkv_merge(const qkv_merge_desc* desc, void* stream);

/** Projections; each as its namesake of attention, qkv_query to qkv_attention. Plans are printed,
 * measured and destroyed as those of attention; a plan runs problems of its own kind alone
 * (QKV_INVALID_PLAN). On CUDA the product is cuBLASLt's, which is opened when first needed
 * (QKV_UNSUPPORTED_KERNEL where there is none, with what to install). Capture a CUDA graph after
 * the first run on a device. */
QKV_API qkv_status qkv_project_desc_init(qkv_project_desc* desc, size_t struct_size);
QKV_API qkv_status qkv_project_query(const qkv_project_desc* desc, qkv_query_result* result);
QKV_API qkv_status qkv_project_plan_create(const qkv_project_desc* desc, qkv_plan** plan);
QKV_API qkv_status qkv_project_plan_run(const qkv_plan* plan, const qkv_project_desc* desc,
                                        void* stream);
QKV_API qkv_status qkv_project(const qkv_project_desc* desc, void* stream);

/** Layers, likewise. */
QKV_API qkv_status qkv_layer_desc_init(qkv_layer_desc* desc, size_t struct_size);
QKV_API qkv_status qkv_layer_query(const qkv_layer_desc* desc, qkv_query_result* result);
QKV_API qkv_status qkv_layer_plan_create(const qkv_layer_desc* desc, qkv_plan** plan);
QKV_API qkv_status qkv_layer_plan_run(const qkv_plan* plan, const qkv_layer_desc* desc,
                                      void* stream);
QKV_API qkv_status qkv_layer(const qkv_layer_desc* desc, void* stream);

#ifdef __cplusplus
}
#endif

#endif /* QKV_QKV_H_ */
