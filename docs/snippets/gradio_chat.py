"""Gradio: a chat with the model."""

import birthgpt
import gradio
from transformers import pipeline

ask = pipeline("text-generation", "you/model")


def answer(question, history):
    return ask(question, return_full_text=False)[0]["generated_text"]


chat = gradio.ChatInterface(answer, api_name="chat")
chat.launch(prevent_thread_lock=True)
