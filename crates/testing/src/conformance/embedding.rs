//! Rows of a table, by token.

use super::suite::{At, Out, Suite, added, inner, take};
use s4_backend::{Backend, EmbeddingBackward, EmbeddingForward, SeqShape};

impl<B: Backend> Suite<'_, B> {
    pub(super) fn embedding(&mut self) {
        let shapes = [(1, 1, 1, 1), (2, 3, 17, 5), (3, 64, 1, 7), (2, 33, 300, 1000)];
        for (batch, heads, len, vocabulary) in self.cases(&shapes, &shapes[..2]) {
            self.embedding_case(SeqShape { batch, heads, len }, vocabulary);
        }
    }

    fn embedding_case(&mut self, shape: SeqShape, vocabulary: usize) {
        let (be, s) = (self.be, &shape);
        let case = format!("{s:?} of {vocabulary}");
        let table = self.normal(vocabulary * s.heads);
        let tokens: Vec<i32> = (0..s.batch * s.len).map(|_| self.rng.below(vocabulary) as i32).collect();
        let dy = self.normal(s.elements());
        let f = |table: &[f64]| {
            let mut y = vec![0.0; s.elements()];
            for (i, y) in y.iter_mut().enumerate() {
                let (b, h, t) = (i / s.len / s.heads, i / s.len % s.heads, i % s.len);
                *y = table[tokens[b * s.len + t] as usize * s.heads + h];
            }
            y
        };
        let at = At { operation: "embedding_forward", case: &case };
        self.forward(at, &[&table], &[&tokens], &[("y", &f(&table))], &mut |a, _| {
            let ([y], [table]) = (take(a.outs), take(a.ins));
            be.embedding_forward(EmbeddingForward { y, table, tokens: &a.ints[0], vocabulary, shape })
        });
        let at = At { operation: "embedding_backward", case: &case };
        let d0 = self.start(table.len());
        let got = self.outputs(at, &[&dy], &[&tokens], &[Out::Add(&d0)], &mut |a, ws| {
            let ([dtable], [dy]) = (take(a.outs), take(a.ins));
            let tokens = &a.ints[0];
            be.embedding_backward(EmbeddingBackward { dtable, dy, tokens, vocabulary, shape }, ws)
        });
        if let Some(got) = got {
            let d = added(&got[0], &d0);
            self.difference(at, "dtable", &d, &table, &mut |table| inner(&f(table), &dy));
        }
    }
}
