//! The journal of a plan's search, checked to be that.

use anyhow::{anyhow, bail};
use fulcrum_plan::{PlanTable, PowerMode};
use fulcrum_planner::plan::inputs_crc;
use fulcrum_planner::pool::{Observation, Pool};
use fulcrum_planner::profile::journal::{Header, Record};
use fulcrum_planner::profile::{Fault, Measurement};
use fulcrum_planner::workload::{Role, Task, Workload};

/// What a paid profile became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Trusted; used in the plan, or dropped because another mode is as good in every question.
    Trusted {
        /// Whether the plan has the cell.
        is_in_plan: bool,
    },
    /// Thrown away.
    Discarded(Fault),
}

/// A paid profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Mode that was asked for.
    pub mode: PowerMode,
    /// Slot of the plan.
    pub slot: usize,
    /// What was seen.
    pub measurement: Measurement,
    /// What became of it.
    pub outcome: Outcome,
}

/// The profiles of a plan, in the order they were paid.
#[derive(Clone, Debug)]
pub struct Journal {
    /// Where the measurements come from, such as `replay orin-agx`.
    pub source: String,
    /// The workloads with their slots.
    pub task: Task,
    /// The profiles.
    pub profiles: Vec<Profile>,
}

/// The workloads of a plan as the planner names them.
fn workloads(plan: &PlanTable) -> Vec<Workload> {
    let workload = |role, workload: &fulcrum_plan::Workload| Workload {
        role,
        name: workload.name.as_str().to_owned(),
        batches: workload.batches.to_vec(),
    };
    let train = plan.train.iter().map(|w| workload(Role::Train, w));
    train
        .chain(plan.infer.iter().map(|w| workload(Role::Infer, w)))
        .collect()
}

fn named(workloads: &[Workload]) -> String {
    let names: Vec<String> = workloads
        .iter()
        .map(|w| format!("{w} at batch {:?}", w.batches))
        .collect();
    names.join(", ")
}

/// Why a journal is not that of a plan, as its header tells.
fn check_header(plan: &PlanTable, header: &Header) -> anyhow::Result<()> {
    let planned = workloads(plan);
    for (what, found, wanted) in [
        (
            "board",
            header.board.clone(),
            plan.board.as_str().to_owned(),
        ),
        ("workloads", named(&header.workloads), named(&planned)),
        (
            "seed",
            header.seed.to_string(),
            plan.provenance.seed.to_string(),
        ),
    ] {
        if found != wanted {
            bail!("is not the plan's journal: its {what}: {found}; the plan's: {wanted}");
        }
    }
    Ok(())
}

impl Journal {
    /// Checks that these are the measurements that went into the plan, by its header and by the CRC of
    /// the inputs in the plan's provenance.
    ///
    /// # Errors
    /// The journal is of another plan: the message says in what they differ.
    pub fn of(plan: &PlanTable, header: &Header, records: Vec<Record>) -> anyhow::Result<Self> {
        check_header(plan, header)?;
        let of_role = |role| {
            header
                .workloads
                .iter()
                .filter(move |w| w.role == role)
                .cloned()
        };
        let task = Task::new(of_role(Role::Train).next(), of_role(Role::Infer).collect())?;
        let profiles = records
            .into_iter()
            .map(|record| profile(plan, &task, &record))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let source = header.source.clone();
        let journal = Self {
            source,
            task,
            profiles,
        };
        let (modes, pool) = journal.pool();
        let found = inputs_crc(&modes, &pool);
        let wanted = plan.provenance.inputs_crc;
        if found != wanted {
            bail!(
                "is not the plan's journal: its {} trusted measurements have the checksum \
                 {found:08x}, those of the plan {wanted:08x}; give the journal that `fulcrum plan` \
                 wrote with this plan",
                pool.order().len()
            );
        }
        Ok(journal)
    }

    /// The trusted measurements as the planner had them, over the modes that were asked for.
    #[must_use]
    pub fn pool(&self) -> (Vec<PowerMode>, Pool) {
        let mut modes: Vec<PowerMode> = self.profiles.iter().map(|profile| profile.mode).collect();
        modes.sort_unstable();
        modes.dedup();
        let mut pool = Pool::new(modes.len(), self.task.slots().len());
        for profile in self.trusted() {
            if let Ok(mode) = modes.binary_search(&profile.mode) {
                pool.record(
                    mode,
                    profile.slot,
                    Observation::Seen(profile.measurement.cell),
                );
            }
        }
        (modes, pool)
    }

    /// The profiles that were trusted, in order.
    pub fn trusted(&self) -> impl Iterator<Item = &Profile> {
        let is_trusted = |p: &&Profile| matches!(p.outcome, Outcome::Trusted { .. });
        self.profiles.iter().filter(is_trusted)
    }

    /// Modes that at least one profile was paid for.
    #[must_use]
    pub fn mode_count(&self) -> usize {
        self.pool().0.len()
    }
}

fn profile(plan: &PlanTable, task: &Task, record: &Record) -> anyhow::Result<Profile> {
    let run = &record.run;
    let slot = (0..task.slots().len()).find(|&slot| {
        let workload = task.workload_of(slot);
        (
            workload.role,
            workload.name.as_str(),
            task.slots()[slot].batch,
        ) == (run.role, run.workload.as_str(), run.batch)
    });
    let slot = slot.ok_or_else(|| anyhow!("holds {run}, which its own header does not name"))?;
    let row = plan.rows.iter().find(|row| row.mode == run.mode);
    let outcome = match record.measurement.fault(&run.mode) {
        Some(fault) => Outcome::Discarded(fault),
        None => Outcome::Trusted {
            is_in_plan: row.and_then(|row| row.cell(slot)).is_some(),
        },
    };
    Ok(Profile {
        mode: run.mode,
        slot,
        measurement: record.measurement,
        outcome,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use fulcrum_planner::profile::faults::Faults;

    #[test]
    fn the_journal_of_another_plan_is_refused_with_the_difference() {
        let (plan, header, records) = sample::search(Some("lstm"), &[], Faults::default());
        let refused = |plan: &PlanTable, header: &Header, records: &[Record]| {
            let journal = Journal::of(plan, header, records.to_vec());
            journal.unwrap_err().to_string()
        };
        assert!(Journal::of(&plan, &header, records.clone()).is_ok());

        let mut other = header.clone();
        other.board = "orin-nx-16".into();
        let message = refused(&plan, &other, &records);
        assert!(
            message.contains("its board: orin-nx-16; the plan's: orin-agx"),
            "{message}"
        );

        other = header.clone();
        other.workloads[0].name = "resnet18".into();
        let message = refused(&plan, &other, &records);
        assert!(message.contains("train/resnet18"), "{message}");

        other = header.clone();
        other.seed = 4;
        let message = refused(&plan, &other, &records);
        assert!(message.contains("its seed: 4; the plan's: 3"), "{message}");

        let message = refused(&plan, &header, &records[1..]);
        assert!(
            message.contains("89 trusted measurements have the checksum"),
            "{message}"
        );
    }

    #[test]
    fn discarded_profiles_are_kept_apart_and_every_cell_of_the_plan_is_found() {
        let (plan, journal) = sample::with_journal();
        let count = |of: fn(&Outcome) -> bool| {
            journal
                .profiles
                .iter()
                .filter(|profile| of(&profile.outcome))
                .count()
        };
        let discarded = count(|outcome| matches!(outcome, Outcome::Discarded(_)));
        let kept = count(|outcome| *outcome == Outcome::Trusted { is_in_plan: true });
        let cells: usize = plan
            .rows
            .iter()
            .map(|row| row.cells.iter().flatten().count())
            .sum();
        assert!(discarded > 0);
        assert_eq!(kept, cells);
        assert_eq!(journal.profiles.len(), plan.provenance.profiles as usize);
        assert_eq!(
            journal.trusted().count() + discarded,
            journal.profiles.len()
        );
    }
}
