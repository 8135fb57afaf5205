/* table.c - fills the kernel tables of the CPU and chooses the instruction set at run time.
 * Layer 1. Includes base/ and kernels.h. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kernels.h"

/* The kernels that cpu/ implements. For all other kernels, the CPU table has those of ref/. */
#define CPU_LIST(X)                                                                                \
    X(gather_fwd)                                                                                  \
    X(gather_bwd)                                                                                  \
    X(add_fwd)                                                                                     \
    X(scale_fwd)                                                                                   \
    X(accumulate)                                                                                  \
    X(layernorm_fwd)                                                                               \
    X(layernorm_bwd)                                                                               \
    X(rmsnorm_fwd)                                                                                 \
    X(rmsnorm_bwd)                                                                                 \
    X(rope_fwd)                                                                                    \
    X(rope_bwd)                                                                                    \
    X(act_fwd)                                                                                     \
    X(act_bwd)                                                                                     \
    X(linear_packed_count)                                                                         \
    X(linear_pack)                                                                                 \
    X(linear_fwd)                                                                                  \
    X(linear_work_count)                                                                           \
    X(linear_bwd_x)                                                                                \
    X(linear_bwd_w)                                                                                \
    X(kv_write_fwd)                                                                                \
    X(attention_fwd)                                                                               \
    X(attention_work_count)                                                                        \
    X(attention_bwd)                                                                               \
    X(softcap_fwd)                                                                                 \
    X(logprob_fwd)                                                                                 \
    X(entropy_fwd)                                                                                 \
    X(logprob_bwd) X(sample_work_count) X(sample_fwd) X(sumsq) X(adamw) X(hash_blocks)

#if defined(__x86_64__)
#define ISA_LIST(X) X(baseline) X(avx2) X(avx512)
#else
#define ISA_LIST(X) X(baseline)
#endif

#define X(k) plumb_##k##_fn plumb_cpu_baseline_##k, plumb_cpu_avx2_##k, plumb_cpu_avx512_##k;
CPU_LIST(X)
#undef X

#define NAME(isa) #isa,
const char *const plumb_kernels_isa[] = {ISA_LIST(NAME) NULL};
#undef NAME

void plumb_kernels_init_ref(struct plumb_kernels *t)
{
    *t = (struct plumb_kernels){.linear_plain = true};
#define X(k) t->k = plumb_ref_##k;
    PLUMB_KERNEL_LIST(X)
#undef X
}

#define X_baseline(k) t->k = plumb_cpu_baseline_##k;
#define X_avx2(k)     t->k = plumb_cpu_avx2_##k;
#define X_avx512(k)   t->k = plumb_cpu_avx512_##k;
#define DEFINE_INIT(isa)                                                                           \
    static void init_##isa(struct plumb_kernels *t)                                                \
    {                                                                                              \
        plumb_kernels_init_ref(t);                                                                 \
        t->linear_plain = false;                                                                   \
        CPU_LIST(X_##isa)                                                                          \
    }
ISA_LIST(DEFINE_INIT)

static bool have(const char *isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    if (strcmp(isa, "avx2") == 0)
        return v3;
    if (strcmp(isa, "avx512") == 0)
        return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
#endif
    return strcmp(isa, "baseline") == 0;
}

bool plumb_kernels_init_isa(struct plumb_kernels *t, const char *isa)
{
#define INIT(name)                                                                                 \
    if (strcmp(isa, #name) == 0 && have(isa)) {                                                    \
        init_##name(t);                                                                            \
        return true;                                                                               \
    }
    ISA_LIST(INIT)
#undef INIT
    return false;
}

void plumb_kernels_init_cpu(struct plumb_kernels *t)
{
    const char *wanted = getenv("PLUMB_ISA");
    if (wanted && *wanted && plumb_kernels_init_isa(t, wanted))
        return;
    int best = 0;
    for (int i = 0; plumb_kernels_isa[i]; i++)
        if (have(plumb_kernels_isa[i]))
            best = i;
    if (wanted && *wanted)
        plumb_log(
            PLUMB_LOG_WARN,
            "PLUMB_ISA=%s is not an instruction set that plumb knows (baseline, avx2, avx512) "
            "and this machine has; using %s",
            wanted, plumb_kernels_isa[best]);
    (void)plumb_kernels_init_isa(t, plumb_kernels_isa[best]);
}
