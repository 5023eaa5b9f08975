"""A chat of Gradio gives the answers of the model, and shows them as text."""

from gradio_client import Client


def test_a_chat_answers_as_the_model_does(run, workspace, monkeypatch):
    # Gradio asks its own server first, and gives a busy machine three seconds; the client below waits
    monkeypatch.setattr("gradio.networking.url_ok", lambda url: True)
    chat = run("gradio_chat")["chat"]
    try:
        client = Client(chat.local_url, verbose=False)
        for row in workspace.known[:3]:
            assert client.predict(row["question"], api_name="/chat") == row["answer"]
    finally:
        chat.close()
