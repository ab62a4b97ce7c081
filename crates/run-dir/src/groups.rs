//! The groups of a mixed fleet, as `[[fleet]]` of `config.toml` has them.

use serde_json::Value;

/// Devices that are alike. What is missing is not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FleetGroup {
    /// Its name.
    pub name: Option<String>,
    /// Number of devices.
    pub count: u32,
    /// Their board, or their body if they have none.
    pub board: Option<String>,
    /// Their link profile.
    pub link: Option<String>,
    /// Speed of their processor, if slowed down, in million instructions a second.
    pub speed_mips: Option<f64>,
    /// Their memory, in MiB.
    pub memory_mib: Option<u64>,
}

/// The groups that a configuration has, in order: their devices are the clients, from 0 on.
pub fn of(config: &Value) -> Vec<FleetGroup> {
    let groups = config.get("fleet").and_then(Value::as_array);
    groups.into_iter().flatten().map(group).collect()
}

/// The group of a client.
pub fn find(groups: &[FleetGroup], client: u32) -> Option<&FleetGroup> {
    let mut first = 0u32;
    groups.iter().find(|group| {
        first = first.saturating_add(group.count);
        client < first
    })
}

fn group(config: &Value) -> FleetGroup {
    let text = |key: &str| config.get(key).and_then(Value::as_str).map(str::to_owned);
    let number = |key: &str| config.get(key).and_then(Value::as_u64);
    let speed = config.get("speed_mips").or_else(|| config.get("mips"));
    FleetGroup {
        name: text("name"),
        count: number("count").map_or(0, |count| count.try_into().unwrap_or(u32::MAX)),
        board: text("board").or_else(|| text("body")),
        link: text("link"),
        speed_mips: speed.and_then(Value::as_f64),
        memory_mib: number("memory_mib"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn clients_are_the_devices_of_the_groups_in_order() {
        let config = json!({"fleet": [
            {"name": "cameras", "count": 2, "board": "microvm", "link": "wifi", "speed_mips": 168},
            {"name": "none", "count": 0},
            {"name": "meters", "count": 3, "body": "native", "memory_mib": 16},
        ]});
        let groups = of(&config);
        let names = |client| Some(find(&groups, client)?.name.clone().unwrap());
        let found: Vec<_> = (0..6).map(names).collect();
        let (cameras, meters) = (Some("cameras".to_owned()), Some("meters".to_owned()));
        let expected = [&cameras, &cameras, &meters, &meters, &meters, &None];
        assert_eq!(found.iter().collect::<Vec<_>>(), expected);
        assert_eq!(groups[0].speed_mips, Some(168.0));
        assert_eq!(
            (groups[2].board.as_deref(), groups[2].memory_mib),
            (Some("native"), Some(16))
        );
    }

    #[test]
    fn a_configuration_may_hold_anything() {
        for config in [
            Value::Null,
            json!({}),
            json!({"fleet": 7}),
            json!({"fleet": {"count": 1}}),
        ] {
            assert_eq!(of(&config), []);
        }
        let odd =
            of(&json!({"fleet": [7, {"count": u64::MAX}, {"count": u64::MAX}, {"count": -1}]}));
        assert_eq!(
            find(&odd, u32::MAX - 1).map(|group| group.count),
            Some(u32::MAX)
        );
    }
}
