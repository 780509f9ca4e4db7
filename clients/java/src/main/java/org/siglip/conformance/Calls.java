package org.siglip.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.util.HashMap;
import java.util.Map;
import org.siglip.client.Embedding;
import org.siglip.client.Siglip;
import org.siglip.client.Vectors;
import org.siglip.v1.ClassifyRequest;
import org.siglip.v1.CreateLabelSetRequest;
import org.siglip.v1.EmbedImagesRequest;
import org.siglip.v1.EmbedTextsRequest;
import org.siglip.v1.GetModelRequest;
import org.siglip.v1.ScoreRequest;
import org.siglip.v1.TokenizeRequest;

/** Makes a call and reports its reply. */
final class Calls {
  private final Plan plan;
  private final Map<String, String> labelSets = new HashMap<>();

  Calls(Plan plan) {
    this.plan = plan;
  }

  void make(Siglip siglip, JsonObject one, JsonObject report) throws IOException {
    String call = one.get("call").getAsString();
    switch (call) {
      case "EmbedTexts" -> embedTexts(siglip, one, report);
      case "EmbedImages" -> embedImages(siglip, one, report);
      case "Classify" -> classify(siglip, one, report);
      case "Score" -> score(siglip, one, report);
      case "CreateLabelSet" -> createLabelSet(siglip, one, report);
      case "GetModel" -> getModel(siglip, one, report);
      case "Tokenize" -> tokenize(siglip, one, report);
      case "EmbedStream" -> Streams.run(siglip, plan, one, report);
      default -> throw new IllegalArgumentException("unknown call " + call);
    }
  }

  private void embedTexts(Siglip siglip, JsonObject one, JsonObject report) throws IOException {
    EmbedTextsRequest request = plan.fill(one, EmbedTextsRequest.newBuilder()).build();
    var reply = siglip.embedding(stub -> stub.embedTexts(request));
    Reports.embeddings(Embedding.of(reply.getResultsList()), report);
    Reports.model(reply.getModel(), report);
  }

  private void embedImages(Siglip siglip, JsonObject one, JsonObject report) throws IOException {
    EmbedImagesRequest request = plan.fill(one, EmbedImagesRequest.newBuilder()).build();
    var reply = siglip.embedding(stub -> stub.embedImages(request));
    Reports.embeddings(Embedding.of(reply.getResultsList()), report);
    Reports.model(reply.getModel(), report);
  }

  private void classify(Siglip siglip, JsonObject one, JsonObject report) throws IOException {
    ClassifyRequest.Builder builder = plan.fill(one, ClassifyRequest.newBuilder());
    if (one.has("label_set_from")) {
      builder.setLabelSet(labelSets.getOrDefault(one.get("label_set_from").getAsString(), ""));
    }
    ClassifyRequest request = builder.build();
    var reply = siglip.zeroShot(stub -> stub.classify(request));
    Reports.classified(reply.getResultsList(), report);
    Reports.model(reply.getModel(), report);
  }

  private void score(Siglip siglip, JsonObject one, JsonObject report) throws IOException {
    ScoreRequest request = plan.fill(one, ScoreRequest.newBuilder()).build();
    var reply = siglip.zeroShot(stub -> stub.score(request));
    report.add("logits", Reports.rows(Vectors.decode(reply.getLogitsPerImage())));
    report.add("probabilities", Reports.rows(Vectors.decode(reply.getProbabilities())));
    Reports.itemErrors(reply.getErrorsList(), report);
    Reports.model(reply.getModel(), report);
  }

  private void createLabelSet(Siglip siglip, JsonObject one, JsonObject report) throws IOException {
    CreateLabelSetRequest request = plan.fill(one, CreateLabelSetRequest.newBuilder()).build();
    var reply = siglip.zeroShot(stub -> stub.createLabelSet(request));
    labelSets.put(one.get("name").getAsString(), reply.getLabelSet());
    report.addProperty("label_set", reply.getLabelSet());
    report.addProperty("label_count", reply.getLabelCount());
    Reports.model(reply.getModel(), report);
  }

  private void getModel(Siglip siglip, JsonObject one, JsonObject report) throws IOException {
    GetModelRequest request = plan.fill(one, GetModelRequest.newBuilder()).build();
    var reply = siglip.model(stub -> stub.getModel(request));
    JsonObject model = new JsonObject();
    model.addProperty("name", reply.getName());
    model.addProperty("fingerprint", reply.getFingerprint());
    model.addProperty("embedding_dim", reply.getEmbeddingDim());
    model.addProperty("text_length", reply.getTextLength());
    report.add("model", model);
  }

  private void tokenize(Siglip siglip, JsonObject one, JsonObject report) throws IOException {
    TokenizeRequest request = plan.fill(one, TokenizeRequest.newBuilder()).build();
    var reply = siglip.model(stub -> stub.tokenize(request));
    JsonArray tokens = new JsonArray();
    for (var result : reply.getResultsList()) {
      JsonArray ids = new JsonArray();
      result.getIdsList().forEach(ids::add);
      tokens.add(ids);
    }
    report.add("tokens", tokens);
  }
}
