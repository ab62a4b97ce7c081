//! Steps of every optimizer against those that NumPy makes: `numpy/optimizers.py` prints the table.

use fl_nn::{
    Activation, Arithmetic, Model, Optimizer, Shape, Step, TrainConfig, Trainer, Workspace,
};

/// Optimizer, weight decay, norm to clip to (0 is none), and the parameters after three steps.
#[rustfmt::skip]
const MADE_BY_NUMPY: [(&str, f32, f32, [f32; 15]); 9] = [
    ("sgd", 0.0, 0.0, [-0.5315305, 0.2487019, -0.2171713, 0.4646812, 0.1548594, -0.3195406, 0.3849353, 0.0196308, -0.404_566, 0.3109807, -0.1174694, -0.4935113, 0.1738916, -0.1575632, 0.4836716]),
    ("sgd", 0.1, 0.0, [-0.5162079, 0.242_199, -0.2111406, 0.4504113, 0.1512265, -0.3105482, 0.3734582, 0.0193043, -0.3927624, 0.3021787, -0.1144465, -0.4788219, 0.1686994, -0.1523129, 0.468_763]),
    ("sgd", 0.1, 0.05, [-0.4893735, 0.2005733, -0.1963493, 0.4804016, 0.1043905, -0.2937024, 0.3860576, 0.0026981, -0.3887557, 0.2924739, -0.0992351, -0.4843286, 0.1904489, -0.1882218, 0.4829225]),
    ("momentum", 0.0, 0.0, [-0.5592245, 0.2913993, -0.2321748, 0.4336083, 0.203_015, -0.3366233, 0.3715554, 0.0370276, -0.408_583, 0.3203535, -0.1324549, -0.4878986, 0.1506046, -0.1199456, 0.469_341]),
    ("momentum", 0.1, 0.0, [-0.5306512, 0.2793659, -0.2209042, 0.4067369, 0.1963806, -0.3198038, 0.3499609, 0.0364956, -0.3864566, 0.3038467, -0.1268147, -0.4603457, 0.1406951, -0.1099455, 0.4414399]),
    ("momentum", 0.1, 0.05, [-0.4801007, 0.2010678, -0.1931566, 0.4632943, 0.1082175, -0.2881981, 0.3738808, 0.0050569, -0.3789377, 0.2858921, -0.0985548, -0.470_651, 0.1820942, -0.1779344, 0.4680297]),
    ("adam", 0.0, 0.0, [-0.7934288, 0.4934163, -0.4933928, 0.2088111, 0.3913073, -0.5915228, 0.1366333, 0.2529497, -0.6105051, 0.5983113, -0.3987161, -0.2006803, -0.0531921, 0.0584754, 0.2333703]),
    ("adam", 0.1, 0.0, [-0.7398832, 0.4878746, -0.4659019, 0.2085473, 0.3875326, -0.5517971, 0.1257852, 0.2369082, -0.1078627, 0.5826498, -0.4001448, -0.2019785, -0.0433799, 0.0663451, 0.206_069]),
    ("adam", 0.1, 0.05, [-0.2056916, 0.1821516, -0.0332749, 0.2053384, 0.326_362, -0.0537625, 0.1130323, 0.0976261, -0.1120026, 0.0614217, -0.1370903, -0.2050646, -0.0359188, 0.0764753, 0.2015569]),
];

fn optimizer(name: &str) -> Optimizer {
    match name {
        "momentum" => Optimizer::Momentum { momentum: 0.9 },
        "adam" => Optimizer::ADAM,
        _ => Optimizer::Sgd,
    }
}

#[test]
fn three_steps_of_every_optimizer_are_those_of_numpy() {
    let model = Model::new(Shape::new(&[4, 3]).unwrap(), Activation::Relu);
    let inputs: Vec<u8> = (0..20).map(|i| (37 * i % 256) as u8).collect();
    let labels = [0, 1, 2, 1, 0];
    for (name, weight_decay, clip_norm, expected) in MADE_BY_NUMPY {
        let config = TrainConfig {
            local_epochs: 3,
            learning_rate: 0.1,
            arithmetic: Arithmetic::Float,
            optimizer: optimizer(name),
            weight_decay,
            clip_norm: (clip_norm > 0.0).then_some(clip_norm),
            ..TrainConfig::default()
        };
        let mut trainer = Trainer::new(&model, config, labels.len()).unwrap();
        let plan = *trainer.plan();
        let mut workspace = Workspace {
            floats: &mut vec![0.0; plan.floats],
            ints: &mut vec![0; plan.ints],
            order: &mut vec![0; plan.order],
        };
        let mut params: Vec<f32> = (0..15).map(|i| ((7 * i % 11) - 5) as f32 / 10.0).collect();
        let step = trainer.step(&mut params, &inputs, &labels, &mut workspace, u32::MAX);
        assert_eq!(step, Ok(Step::Done));
        for (found, expected) in params.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 2e-6,
                "{name} {weight_decay} {clip_norm}: {params:?}"
            );
        }
    }
}
