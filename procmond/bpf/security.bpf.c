/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What processes do to privileges, to each other and to the kernel. Observed only: a program of the BPF LSM is called where
 * everything before it has allowed the act, and says what they said.
 *
 * Each act has up to two programs: one for the BPF LSM, one that stands at the end of the same hook's function for kernels
 * where that LSM is not active, and tells what was allowed. The reader attaches the first that it can.
 */
#include "process.h"

#define TEXT 0x7ffU
#define MAX_PATH 1536U
#define BUFFER (TEXT + 1 + MAX_NAME)
#include "text.h"

char LICENSE[] SEC("license") = "GPL";

/* Set before loading: what the reader loads is not told. */
volatile const u32 OWN_PID = 0;

enum kind { CREDENTIALS = 1, PTRACE = 2, MODULE_LOAD = 3, BPF_LOAD = 4, MEMORY_EXEC = 5 };
/* What COUNTERS counts. */
enum counter { LOST, KEPT_BACK, COUNTER_KINDS };

#define PTRACE_MODE_ATTACH 2
#define PROT_WRITE 2
#define PROT_EXEC 4
#define VM_WRITE 2
#define VM_EXEC 4
#define BPF_PROG_LOAD 5
/* In the attributes of BPF_PROG_LOAD. */
#define PROGRAM_TYPE_AT 0
#define INSTRUCTIONS_AT 4
#define PROGRAM_NAME_AT 48
#define SECOND 1000000000ULL

struct {
    UINT(type, BPF_MAP_TYPE_RINGBUF);
    UINT(max_entries, 1048576);
} ACTS SEC(".maps");

struct {
    UINT(type, BPF_MAP_TYPE_ARRAY);
    UINT(max_entries, COUNTER_KINDS);
    u32 *key;
    u64 *value;
} ACT_COUNTERS SEC(".maps");

/* Runtimes that compile as they run make memory executable all the time, and debuggers reach into memory: told is the first
 * of a second, with how many there were since the one before. The reader tells the rest, where none comes any more, and
 * finds by KEPT_BACK what this map has forgotten. 40 bytes. */
struct subject {
    /* When the process began, and the file where there is one. */
    u64 start, inode;
    u32 kind, pid, target, how, device, unused;
};
struct recent { u64 at, last, kept_back; };
struct {
    UINT(type, BPF_MAP_TYPE_LRU_HASH);
    UINT(max_entries, 4096);
    struct subject *key;
    struct recent *value;
} RECENT SEC(".maps");

struct header { u32 kind, cpu; u64 time; };

/* 272 bytes, then text. It is made in the ring, where it has room for the longest text: some hundred fit. */
struct act {
    struct header header;
    struct who who;
    /* Of ptrace: the process that is traced. */
    struct who target;
    u64 count;
    /* CREDENTIALS: old and new uid, old and new euid. PTRACE: 1 where the target asked for it. BPF_LOAD: type, instructions.
     * MEMORY_EXEC: protection, 1 where it is a new mapping. */
    u32 numbers[4];
    /* What it was kept back by; of other kinds zeroes. */
    struct subject subject;
    /* Names of a path from its end, or a string: each ended by NUL. */
    struct buffer object;
};

INLINE void count(u32 what)
{
    u64 *counter = bpf_map_lookup_elem(&ACT_COUNTERS, &what);
    if (counter)
        __sync_fetch_and_add(counter, 1);
}

/* An act of a process; to be submitted. */
INLINE struct act *begin(u32 kind, const struct who *who)
{
    struct act *act = bpf_ringbuf_reserve(&ACTS, sizeof(*act), 0);
    if (!act) {
        count(LOST);
        return NULL;
    }
    act->header.kind = kind;
    act->header.cpu = bpf_get_smp_processor_id();
    act->header.time = bpf_ktime_get_boot_ns();
    act->who = *who;
    __builtin_memset(&act->target, 0, sizeof(act->target));
    __builtin_memset(act->numbers, 0, sizeof(act->numbers));
    __builtin_memset(&act->subject, 0, sizeof(act->subject));
    act->count = 1;
    fill(&act->object, 0);
    return act;
}

INLINE void tell(struct act *act)
{
    bpf_ringbuf_submit(act, BPF_RB_NO_WAKEUP);
}

/* How many acts like it this one stands for; 0 where it is to be kept back. */
INLINE u64 stands_for(const struct subject *subject)
{
    struct recent first = { .at = bpf_ktime_get_boot_ns() }, *recent = bpf_map_lookup_elem(&RECENT, subject);
    u64 kept_back;
    if (!recent) {
        bpf_map_update_elem(&RECENT, subject, &first, 0);
        return 1;
    }
    if (first.at - recent->at < SECOND) {
        recent->last = first.at;
        __sync_fetch_and_add(&recent->kept_back, 1);
        count(KEPT_BACK);
        return 0;
    }
    kept_back = recent->kept_back;
    recent->kept_back = 0;
    recent->at = first.at;
    return kept_back + 1;
}

/* Once for all programs, which it would otherwise be most of. */
NOINLINE bool describe_task(struct who *who, struct task_struct *leader)
{
    return describe(who, leader);
}

INLINE bool describe_current(struct who *who)
{
    return describe_task(who, bpf_get_current_task_btf()->group_leader);
}

/* ---- credentials: another user's, without another program ---- */

INLINE void credentials(const struct cred *new, const struct cred *old)
{
    u32 old_uid = old->uid.val, new_uid = new->uid.val, old_euid = old->euid.val, new_euid = new->euid.val;
    struct who who = {};
    struct act *act;
    if ((new_euid || !old_euid) && (new_uid || !old_uid))
        return;
    if (!describe_current(&who))
        return;
    act = begin(CREDENTIALS, &who);
    if (!act)
        return;
    act->numbers[0] = old_uid;
    act->numbers[1] = new_uid;
    act->numbers[2] = old_euid;
    act->numbers[3] = new_euid;
    tell(act);
}

SEC("lsm/task_fix_setuid")
int lsm_credentials(u64 *arguments)
{
    credentials((const struct cred *)arguments[0], (const struct cred *)arguments[1]);
    return 0;
}

SEC("fexit/security_task_fix_setuid")
int fexit_credentials(u64 *arguments)
{
    if (!(int)arguments[3])
        credentials((const struct cred *)arguments[0], (const struct cred *)arguments[1]);
    return 0;
}

/* ---- ptrace ---- */

INLINE void trace(struct task_struct *tracer, struct task_struct *target, u32 asked_for)
{
    struct who who = {}, whom = {};
    struct subject subject = {};
    struct act *act;
    u64 count;
    if (tracer == target || !describe_task(&who, tracer))
        return;
    /* Outside of our namespace it has no number. */
    describe_task(&whom, target);
    subject.start = who.start;
    subject.kind = PTRACE;
    subject.pid = who.pid;
    subject.target = whom.pid;
    subject.how = asked_for;
    count = stands_for(&subject);
    if (!count)
        return;
    act = begin(PTRACE, &who);
    if (!act)
        return;
    act->subject = subject;
    act->target = whom;
    act->count = count;
    act->numbers[0] = asked_for;
    tell(act);
}

INLINE void attach(struct task_struct *child, u32 mode)
{
    if (mode & PTRACE_MODE_ATTACH)
        trace(bpf_get_current_task_btf()->group_leader, child->group_leader, 0);
}

INLINE void ask_for_tracing(struct task_struct *parent)
{
    trace(parent->group_leader, bpf_get_current_task_btf()->group_leader, 1);
}

SEC("lsm/ptrace_access_check")
int lsm_ptrace(u64 *arguments)
{
    attach((struct task_struct *)arguments[0], arguments[1]);
    return 0;
}

SEC("fexit/security_ptrace_access_check")
int fexit_ptrace(u64 *arguments)
{
    if (!(int)arguments[2])
        attach((struct task_struct *)arguments[0], arguments[1]);
    return 0;
}

SEC("lsm/ptrace_traceme")
int lsm_traceme(u64 *arguments)
{
    ask_for_tracing((struct task_struct *)arguments[0]);
    return 0;
}

SEC("fexit/security_ptrace_traceme")
int fexit_traceme(u64 *arguments)
{
    if (!(int)arguments[1])
        ask_for_tracing((struct task_struct *)arguments[0]);
    return 0;
}

/* ---- what the kernel is made to run ---- */

INLINE void append_string(struct act *act, const void *from, u32 size)
{
    long length = bpf_probe_read_kernel_str(act->object.bytes, size, from);
    if (length > 0)
        fill(&act->object, length);
}

SEC("tp_btf/module_load")
int on_module(u64 *arguments)
{
    struct module *module = (struct module *)arguments[0];
    struct who who = {};
    struct act *act;
    if (!describe_current(&who))
        return 0;
    act = begin(MODULE_LOAD, &who);
    if (!act)
        return 0;
    append_string(act, __builtin_preserve_access_index(&module->name), sizeof(module->name));
    tell(act);
    return 0;
}

INLINE void bpf_load(u32 command, const void *attributes)
{
    struct who who = {};
    struct act *act;
    if (command != BPF_PROG_LOAD || !describe_current(&who) || who.pid == OWN_PID)
        return;
    act = begin(BPF_LOAD, &who);
    if (!act)
        return;
    bpf_probe_read_kernel(&act->numbers[0], sizeof(u32), attributes + PROGRAM_TYPE_AT);
    bpf_probe_read_kernel(&act->numbers[1], sizeof(u32), attributes + INSTRUCTIONS_AT);
    append_string(act, attributes + PROGRAM_NAME_AT, 16);
    tell(act);
}

SEC("lsm/bpf")
int lsm_bpf(u64 *arguments)
{
    bpf_load(arguments[0], (const void *)arguments[1]);
    return 0;
}

/* At the beginning: where the verdict is at the end depends on the kernel. */
SEC("fentry/security_bpf")
int fentry_bpf(u64 *arguments)
{
    bpf_load(arguments[0], (const void *)arguments[1]);
    return 0;
}

/* ---- memory that is written and then run ---- */

NOINLINE void memory(struct file *file, u32 protection, u32 mapped)
{
    struct who who = {};
    struct subject subject = {};
    struct path path = {};
    struct act *act;
    u64 count;
    if (!describe_current(&who))
        return;
    subject.start = who.start;
    subject.kind = MEMORY_EXEC;
    subject.pid = who.pid;
    subject.how = mapped;
    if (file) {
        struct inode *inode = NULL;
        struct super_block *device = NULL;
        READ(inode, file, f_inode);
        READ(subject.inode, inode, i_ino);
        READ(device, inode, i_sb);
        READ(subject.device, device, s_dev);
    }
    count = stands_for(&subject);
    if (!count)
        return;
    act = begin(MEMORY_EXEC, &who);
    if (!act)
        return;
    act->subject = subject;
    act->count = count;
    act->numbers[0] = protection;
    act->numbers[1] = mapped;
    if (file) {
        READ(path, file, f_path);
        append_path(&act->object, path.mnt, path.dentry);
    }
    tell(act);
}

INLINE void protect(struct vm_area_struct *area, u32 protection)
{
    unsigned long flags = 0;
    void *written = NULL;
    struct file *file = NULL;
    READ(flags, area, vm_flags);
    READ(written, area, anon_vma);
    if (!(protection & PROT_EXEC) || (flags & VM_EXEC && (flags & VM_WRITE || !(protection & PROT_WRITE))))
        return;
    if (!(flags & VM_WRITE) && !(protection & PROT_WRITE) && !written)
        return;
    READ(file, area, vm_file);
    memory(file, protection, 0);
}

INLINE void map(struct file *file, u32 protection)
{
    if ((protection & (PROT_WRITE | PROT_EXEC)) == (PROT_WRITE | PROT_EXEC))
        memory(file, protection, 1);
}

SEC("lsm/file_mprotect")
int lsm_protect(u64 *arguments)
{
    protect((struct vm_area_struct *)arguments[0], arguments[2]);
    return 0;
}

SEC("fexit/security_file_mprotect")
int fexit_protect(u64 *arguments)
{
    if (!(int)arguments[3])
        protect((struct vm_area_struct *)arguments[0], arguments[2]);
    return 0;
}

SEC("lsm/mmap_file")
int lsm_map(u64 *arguments)
{
    map((struct file *)arguments[0], arguments[2]);
    return 0;
}

SEC("fexit/security_mmap_file")
int fexit_map(u64 *arguments)
{
    if (!(int)arguments[3])
        map((struct file *)arguments[0], arguments[1]);
    return 0;
}
