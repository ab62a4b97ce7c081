//! Place of a node among all: its rank, their number, and where the root is, from the environment.

use std::fmt;

/// Port of the root where nothing else is said.
const PORT: u16 = 8707;

/// First of the ports of jobs of Slurm, and how many there are: two jobs may share a machine.
const JOB_PORTS: (u32, u32) = (20_000, 10_000);

/// Variables of what starts nodes, each with the rank and their number.
const ENGINES: [(&str, &str); 6] = [
    ("ZFL_RANK", "ZFL_WORLD"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("JOB_COMPLETION_INDEX", "ZFL_WORLD"),
];

/// Place of a node among all of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// Number of the node, from 0, which has the root.
    pub rank: u32,
    /// Number of nodes.
    pub size: u32,
    /// Host and port of the root.
    pub root: String,
}

/// The environment tells no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorldError {
    /// Nothing has started this process as one of several.
    None,
    /// A variable has no such value.
    Bad(String),
    /// Nothing says where the root is.
    NoRoot,
}

impl fmt::Display for WorldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str(
                "zfl agent is one of several and nothing says which: start it by srun, mpirun or an indexed job of \
                 Kubernetes, set ZFL_RANK and ZFL_WORLD, or use zfl launch",
            ),
            Self::Bad(why) => f.write_str(why),
            Self::NoRoot => f.write_str(
                "nothing says where the root is: set ZFL_ROOT_AT=HOST:PORT, where HOST is the machine of rank 0",
            ),
        }
    }
}

impl std::error::Error for WorldError {}

impl World {
    /// The place that these variables tell.
    ///
    /// # Errors
    /// [`WorldError`] if they tell none.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, WorldError> {
        let variable = |name: &str| variable(name).filter(|text| !text.is_empty());
        let number = |name: &str| {
            let text = variable(name);
            let number = text.as_ref().map(|text| text.trim().parse::<u32>());
            number.transpose().map_err(|_| {
                let text = text.unwrap_or_default();
                WorldError::Bad(format!("{name}={text} is no whole number"))
            })
        };
        for (rank, size) in ENGINES {
            let (Some(rank), Some(size)) = (number(rank)?, number(size)?) else {
                continue;
            };
            if rank >= size {
                let why = format!("rank {rank} of {size} nodes: ranks count from 0");
                return Err(WorldError::Bad(why));
            }
            let named = variable("ZFL_ROOT_AT");
            let root = named.or_else(|| root_of_slurm(&variable));
            let alone = (size == 1).then(|| format!("localhost:{PORT}"));
            let root = root.or(alone).ok_or(WorldError::NoRoot)?;
            return Ok(Self { rank, size, root });
        }
        Err(WorldError::None)
    }

    /// Port of the root.
    ///
    /// # Errors
    /// If the address of the root has none.
    pub fn port(&self) -> Result<u16, WorldError> {
        let port = self.root.rsplit_once(':').map(|(_, port)| port.parse());
        let bad = || WorldError::Bad(format!("ZFL_ROOT_AT={}: give HOST:PORT", self.root));
        port.and_then(Result::ok).ok_or_else(bad)
    }
}

/// The root's address in a job of Slurm: the first of its nodes, and a port of the job's own.
fn root_of_slurm(variable: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let nodes = variable("SLURM_STEP_NODELIST").or_else(|| variable("SLURM_JOB_NODELIST"))?;
    let job: Option<u32> = variable("SLURM_JOB_ID").and_then(|id| id.parse().ok());
    let (first, ports) = JOB_PORTS;
    let port = job.map_or(u32::from(PORT), |job| first + job % ports);
    Some(format!("{}:{port}", first_host(&nodes)))
}

/// The first host of a list as Slurm writes it: `n[003-007,9],m1` begins with `n003`.
fn first_host(list: &str) -> String {
    let mut host = String::new();
    let mut rest = list.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            ',' => break,
            '[' => {
                while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                    host.push(digit);
                }
                // The rest of the range.
                rest.by_ref().find(|&c| c == ']');
            }
            c => host.push(c),
        }
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<World, WorldError> {
        World::of(|name| {
            let found = variables.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_engine_tells_rank_and_world() {
        let root = ("ZFL_ROOT_AT", "m:1");
        for (rank, size) in ENGINES {
            let world = of(&[(rank, "2"), (size, "3"), root]).unwrap();
            assert_eq!((world.rank, world.size, &*world.root), (2, 3, "m:1"));
            assert_eq!(world.port(), Ok(1));
        }
        assert_eq!(of(&[]), Err(WorldError::None));
        assert_eq!(
            of(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]),
            Err(WorldError::NoRoot)
        );
        for (rank, size) in [("2", "2"), ("x", "2"), ("0", "-1")] {
            let bad = of(&[("PMI_RANK", rank), ("PMI_SIZE", size), root]);
            assert!(matches!(bad, Err(WorldError::Bad(_))), "{rank} of {size}");
        }
        // A step has its own number of tasks, and what was said by hand goes before all.
        let step = [
            ("SLURM_PROCID", "1"),
            ("SLURM_STEP_NUM_TASKS", "2"),
            ("SLURM_NTASKS", "4"),
        ];
        assert_eq!(of(&[&step[..], &[root]].concat()).unwrap().size, 2);
        let own = [("ZFL_RANK", "0"), ("ZFL_WORLD", "1")];
        assert_eq!(of(&[&step[..], &own].concat()).unwrap().size, 1);
    }

    #[test]
    fn the_root_of_a_job_of_slurm_is_on_its_first_node() {
        let job = |nodes| {
            let job = [
                ("SLURM_PROCID", "0"),
                ("SLURM_NTASKS", "3"),
                ("SLURM_JOB_NODELIST", nodes),
                ("SLURM_JOB_ID", "123456"),
            ];
            of(&job).unwrap().root
        };
        for (nodes, first) in [
            ("n[003-007,9],m1", "n003"),
            ("n1,n2", "n1"),
            ("gpu-a[1,3].site", "gpu-a1.site"),
            ("one", "one"),
            ("r[1-2]n[4-5]", "r1n4"),
            ("broken[", "broken"),
        ] {
            assert_eq!(job(nodes), format!("{first}:23456"));
        }
    }
}
