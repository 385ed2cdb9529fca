/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * All processes at once, for scans: one program gives what is cheap to know of each and the path of its program, another,
 * which may sleep while it waits for memory of the process, gives the arguments. Both go by growing pid.
 *
 * One reader reads at a time: it holds the only buffer.
 */
#include "process.h"
#include "text.h"

char LICENSE[] SEC("license") = "GPL";

/* The process of which the control group is told too, by the whole path from the root of its hierarchy. */
volatile const u32 GROUP_OF = 0;

struct {
    UINT(type, BPF_MAP_TYPE_ARRAY);
    UINT(max_entries, 2);
    u32 *key;
    struct buffer *value;
} SCAN_BUFFERS SEC(".maps");

struct process {
    /* Of all of it, the path included. */
    u32 size, path;
    struct who who;
    u64 cpu, resident_pages;
    u32 state, exit_state;
    /* 1: the program's name is gone. 2: it has no memory, so neither program nor arguments. 4: it has more threads than
     * are counted. */
    u32 marks;
    /* Of the path of the control group, behind that of the program. */
    u32 group;
};

struct arguments {
    u32 size, pid;
    u64 start, total;
    /* Of the program whose arguments these are. */
    u64 exec_id;
};

#define MAX_THREADS 128

INLINE void use_processor_time(struct process *process, struct signal_struct *signal)
{
    struct list_head *entry = NULL, *head = __builtin_preserve_access_index(&signal->thread_head);
    process->cpu = signal->sum_sched_runtime;
    READ(entry, signal, thread_head.next);
    for (u32 i = 0; i < MAX_THREADS; i++) {
        struct task_struct *thread;
        u64 time = 0;
        if (entry == head)
            return;
        thread = (void *)entry - __builtin_preserve_field_info(((struct task_struct *)0)->thread_node, 0);
        READ(time, thread, se.sum_exec_runtime);
        process->cpu += time;
        READ(entry, thread, thread_node.next);
    }
    process->marks |= 4;
}

INLINE u64 positive(s64 count)
{
    return count > 0 ? count : 0;
}

INLINE void use_memory(struct process *process, struct mm_struct *mm)
{
    /* Files, anonymous memory, shared memory; the third is what is swapped out. */
    if (HAS(((struct mm_struct___counters *)mm)->rss_stat)) {
        struct mm_struct___counters *now = (void *)mm;
        s64 files = 0, anonymous = 0, shared = 0;
        READ(files, now, rss_stat[0].count);
        READ(anonymous, now, rss_stat[1].count);
        READ(shared, now, rss_stat[3].count);
        process->resident_pages = positive(files) + positive(anonymous) + positive(shared);
    } else {
        struct mm_struct___early *early = (void *)mm;
        s64 files = 0, anonymous = 0, shared = 0;
        READ(files, early, rss_stat.count[0].counter);
        READ(anonymous, early, rss_stat.count[1].counter);
        READ(shared, early, rss_stat.count[3].counter);
        process->resident_pages = positive(files) + positive(anonymous) + positive(shared);
    }
}

SEC("iter/task")
int each_process(struct bpf_iter__task *context)
{
    struct task_struct *task = context->task;
    struct seq_file *to = context->meta->seq;
    struct mm_struct *mm;
    struct file *file = NULL;
    struct process *process;
    struct buffer *buffer;
    u32 slot = 0, begun = sizeof(struct process);
    if (!task || task->pid != task->tgid)
        return 0;
    buffer = bpf_map_lookup_elem(&SCAN_BUFFERS, &slot);
    if (!buffer)
        return 0;
    process = (void *)buffer->bytes;
    __builtin_memset(process, 0, sizeof(*process));
    if (!describe(&process->who, task))
        return 0;
    if (HAS(task->__state))
        process->state = task->__state;
    else
        process->state = ((struct task_struct___early *)task)->state;
    process->exit_state = task->exit_state;
    use_processor_time(process, task->signal);
    fill(buffer, begun);
    mm = task->mm;
    if (mm) {
        use_memory(process, mm);
        file = mm->exe_file;
    } else {
        process->marks |= 2;
    }
    if (file) {
        struct path path = {};
        READ(path, file, f_path);
        if (is_unlinked(path.dentry))
            process->marks |= 1;
        append_path(buffer, path.mnt, path.dentry);
        process->path = part(buffer, &begun);
    }
    if (process->who.pid == GROUP_OF) {
        append_group(buffer, task->cgroups);
        process->group = part(buffer, &begun);
    }
    process->size = begun;
    bpf_seq_write(to, buffer->bytes, filled(buffer) & 0x7fff);
    return 0;
}

SEC("iter.s/task")
int each_arguments(struct bpf_iter__task *context)
{
    struct task_struct *task = context->task;
    struct seq_file *to = context->meta->seq;
    struct arguments *arguments;
    struct buffer *buffer;
    struct mm_struct *mm;
    u32 slot = 1, wanted;
    u64 from;
    if (!task || task->pid != task->tgid)
        return 0;
    mm = task->mm;
    buffer = bpf_map_lookup_elem(&SCAN_BUFFERS, &slot);
    if (!mm || !buffer)
        return 0;
    /* Whoever may mount file systems of its own can map a file of one over its arguments and let us wait for it. /proc gives
     * the arguments of all others than root, and waits for no file. */
    if (task->cred->euid.val)
        return 0;
    arguments = (void *)buffer->bytes;
    arguments->pid = number_of(task->thread_pid);
    if (!arguments->pid)
        return 0;
    arguments->start = task->start_boottime;
    arguments->exec_id = task->self_exec_id;
    from = mm->arg_start;
    arguments->total = mm->arg_end - from;
    wanted = arguments->total < PIECE ? arguments->total : PIECE;
    asm volatile("%0 &= %1" : "+r"(wanted) : "i"(BOUND));
    if (wanted && bpf_copy_from_user_task(&buffer->bytes[sizeof(*arguments)], wanted, (void *)from, task, 0))
        return 0;
    arguments->size = sizeof(*arguments) + wanted;
    bpf_seq_write(to, buffer->bytes, arguments->size);
    return 0;
}
