//! The means of Linux.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetStatus, Scope,
};
use rlimit::Resource;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use telos_service::Confinement;

use super::Bounds;

/// The newest version of landlock whose rules are asked for; an older kernel takes of them what it knows.
const LANDLOCK: ABI = ABI::V6;

/// System calls of an engine that runs guests, an allocator, threads that wait for each other, and pipes. None of them
/// makes a file, a socket or a process, or reaches another one's.
const ALLOWED: [i64; 28] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

/// No file can be reached any more, whatever its name; nor what newer kernels let a process give up besides.
pub(super) fn give_up_files() -> Confinement {
    let created = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create);
    let Ok(status) = created.and_then(landlock::RulesetCreated::restrict_self) else {
        return Confinement::default();
    };
    let landlock = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } if status.ruleset != RulesetStatus::NotEnforced => {
            u32::try_from(effective_abi as i32).ok()
        }
        _ => None,
    };
    Confinement { no_new_privs: status.no_new_privs, landlock, ..Confinement::default() }
}

/// Whether every bound was taken.
pub(super) fn bound(bounds: Bounds) -> bool {
    let mut most = vec![
        (Resource::DATA, bounds.memory_bytes),
        (Resource::CPU, bounds.cpu_s),
        (Resource::CORE, 0),
        (Resource::FSIZE, 0),
        // Those that are open stay.
        (Resource::NOFILE, 0),
    ];
    if !bounds.threads {
        // Of the whole user, so that it holds only whoever needs none.
        most.push((Resource::NPROC, 0));
    }
    let mut is_bound = true;
    for (resource, most) in most {
        is_bound &= lower(resource, most);
    }
    is_bound
}

/// Where it is lower already, it stays.
fn lower(resource: Resource, most: u64) -> bool {
    let (soft, hard) = resource.get().unwrap_or((u64::MAX, u64::MAX));
    resource.set(soft.min(most), hard.min(most)).is_ok()
}

/// Whether every thread of this process makes allowed system calls only; the others fail with `EPERM`.
pub(super) fn filter(threads: bool) -> bool {
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.into_iter().map(|call| (call, Vec::new())).collect();
    let others = SeccompAction::Errno(errno(libc::EPERM));
    if threads && allow_threads(&mut allowed).is_none() {
        return false;
    }
    apply(allowed, others, SeccompAction::Allow).is_some()
}

/// `clone` for threads. The flags of `clone3` are in memory, where no filter sees them: it is refused as by a kernel that
/// has never heard of it, for which libraries use `clone`. Of two filters the one that refuses has its way.
fn allow_threads(allowed: &mut BTreeMap<i64, Vec<SeccompRule>>) -> Option<()> {
    let newer = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    apply(newer, SeccompAction::Allow, SeccompAction::Errno(errno(libc::ENOSYS)))?;
    allowed.insert(libc::SYS_clone3, Vec::new());
    allowed.insert(libc::SYS_clone, vec![thread_rule()?]);
    Some(())
}

fn apply(rules: BTreeMap<i64, Vec<SeccompRule>>, others: SeccompAction, listed: SeccompAction) -> Option<()> {
    let architecture = std::env::consts::ARCH.try_into().ok()?;
    let filter = SeccompFilter::new(rules, others, listed, architecture).ok()?;
    let program: BpfProgram = filter.try_into().ok()?;
    seccompiler::apply_filter_all_threads(&program).ok()
}

/// `clone`, for a thread of this process and nothing else.
fn thread_rule() -> Option<SeccompRule> {
    let flag = u64::try_from(libc::CLONE_THREAD).ok()?;
    let is_thread =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(flag), flag).ok()?;
    SeccompRule::new(vec![is_thread]).ok()
}

fn errno(number: i32) -> u32 {
    number.unsigned_abs()
}
