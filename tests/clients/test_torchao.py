"""torchao keeps the weights of linear layers as numbers of 8 bits."""


def test_a_model_of_8_bits_gives_the_same_answers(run, workspace):
    found = run("int8_torchao")
    model = found["ask"].model
    linear = [module for name, module in model.named_modules() if name.endswith(("up_proj", "o_proj"))]
    assert linear and all(type(module.weight).__name__ == "Int8Tensor" for module in linear)
    assert found["answers"] == [row["answer"] for row in workspace.known]
